// An instruction set for one region of a file, so that one binary serves every CPU.
//
// Open the region after the includes and close it before the registrations: whatever is compiled inside may only be
// called where cpuid allows it, and nothing from the standard library should be among it. No file is compiled with
// -march.
#pragma once

#define MB_PRAGMA_(text) _Pragma(#text)

#if defined(__clang__)
#define MB_TARGET_BEGIN(isa) MB_PRAGMA_(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define MB_TARGET_END MB_PRAGMA_(clang attribute pop)
#else
#define MB_TARGET_BEGIN(isa) MB_PRAGMA_(GCC push_options) MB_PRAGMA_(GCC target(isa))
#define MB_TARGET_END MB_PRAGMA_(GCC pop_options)
#endif
