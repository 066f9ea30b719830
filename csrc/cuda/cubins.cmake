# Machine code of the kernels: one cubin per source file and target that the rows of microbench/kernels/cuda/rows.py name, compiled by
# nvcc where there is one. Each is an edge of the build graph of its own, so that they compile in parallel.
#
# MICROBENCH_CUDA: ON demands nvcc, OFF leaves the cubins out, AUTO takes nvcc if there is one. Sources are installed always: NVRTC
# compiles them on the user's machine where no cubin fits.
set(MICROBENCH_CUDA AUTO CACHE STRING "Build the CUDA kernels' machine code: ON, OFF or AUTO")
set_property(CACHE MICROBENCH_CUDA PROPERTY STRINGS ON OFF AUTO)
# MICROBENCH_CUDA_TARGETS: the targets that are compiled, such as "sm_90a" or "sm_80,sm_90a"; empty means all. A machine of one kind
# of GPU needs no other's machine code, and what is left out NVRTC compiles there.
set(MICROBENCH_CUDA_TARGETS "" CACHE STRING "Compute targets of the CUDA kernels' machine code, separated by commas; empty: all")
set(MICROBENCH_CUBIN_COUNT 0)
set(MICROBENCH_NVCC_VERSION "")
set(MICROBENCH_WHY_NO_CUBINS "")

# nvcc on the path, in CUDA_HOME, at the usual place, or from PyPI wheels in the building environment.
function(microbench_find_nvcc)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "import importlib.util as u; s = u.find_spec('nvidia'); print(';'.join(s.submodule_search_locations) if s else '')"
    OUTPUT_VARIABLE wheels OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(hints "")
  foreach(folder IN LISTS wheels)
    file(GLOB toolkits "${folder}/cu*/bin" "${folder}/cuda_nvcc/bin")
    list(APPEND hints ${toolkits})
  endforeach()
  find_program(MICROBENCH_NVCC nvcc PATHS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda ${hints} PATH_SUFFIXES bin)
endfunction()

# MICROBENCH_CHOSEN: the targets of the rows that were asked for, of names like "plain.sm_90a".
function(microbench_choose_targets names)
  set(known "")
  foreach(name IN LISTS names)
    string(REGEX REPLACE "^[^.]+\\." "" target "${name}")
    list(APPEND known "${target}")
  endforeach()
  list(REMOVE_DUPLICATES known)
  string(REGEX REPLACE "[ ,;]+" ";" asked "${MICROBENCH_CUDA_TARGETS}")
  list(REMOVE_ITEM asked "")
  foreach(target IN LISTS asked)
    if(NOT target IN_LIST known)
      list(SORT known COMPARE NATURAL)
      list(JOIN known ", " known)
      message(FATAL_ERROR "MICROBENCH_CUDA_TARGETS names '${target}', which is no target of the kernels; it can be ${known}, several with commas.")
    endif()
  endforeach()
  if(NOT asked)
    set(asked "${known}")
  endif()
  set(MICROBENCH_CHOSEN "${asked}" PARENT_SCOPE)
endfunction()

if(MICROBENCH_CUDA STREQUAL "OFF")
  set(MICROBENCH_WHY_NO_CUBINS "built with MICROBENCH_CUDA=OFF")
elseif(NOT MICROBENCH_CUDA MATCHES "^(ON|AUTO)$")
  message(FATAL_ERROR "MICROBENCH_CUDA is '${MICROBENCH_CUDA}'; it can be ON, OFF or AUTO")
else()
  microbench_find_nvcc()
  if(MICROBENCH_NVCC)
    execute_process(COMMAND "${MICROBENCH_NVCC}" --version OUTPUT_VARIABLE said ERROR_QUIET)
    string(REGEX MATCH "V([0-9]+\\.[0-9]+\\.[0-9]+)" said "${said}")
    set(MICROBENCH_NVCC_VERSION "${CMAKE_MATCH_1}")
  endif()
  if(NOT MICROBENCH_NVCC_VERSION)
    set(MICROBENCH_WHY_NO_CUBINS "built without nvcc")
  elseif(MICROBENCH_NVCC_VERSION VERSION_LESS 13.0)
    set(MICROBENCH_WHY_NO_CUBINS "built with nvcc ${MICROBENCH_NVCC_VERSION}, the kernels need 13.0 or newer")
  endif()
  if(MICROBENCH_WHY_NO_CUBINS AND MICROBENCH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MICROBENCH_CUDA=ON, but this is ${MICROBENCH_WHY_NO_CUBINS}. "
      "Put nvcc 13 on PATH, or build with MICROBENCH_CUDA_WHEELS=1, or set MICROBENCH_CUDA=AUTO for a package without cubins.")
  endif()
endif()

file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/kernels/*.cu")
set(prelude "${CMAKE_CURRENT_SOURCE_DIR}/kernels/prelude.cuh")
install(FILES ${sources} ${prelude} DESTINATION microbench/cuda/src)
if(sources AND NOT MICROBENCH_CUDA STREQUAL "OFF")
  file(GLOB rows CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/microbench/kernels/cuda/row*.py")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${rows})
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -B -c "from microbench.kernels.cuda.rows import FAMILIES as f; print(';'.join(f'{n}.{t}' for n in f for t in f[n]))"
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE wanted OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  microbench_choose_targets("${wanted}")  # a wrong name is refused without nvcc too
endif()
if(sources AND NOT MICROBENCH_WHY_NO_CUBINS)
  set(cubins "")
  foreach(name IN LISTS wanted)
    string(REGEX MATCH "^([^.]+)\\.(.+)$" name "${name}")
    if(NOT CMAKE_MATCH_2 IN_LIST MICROBENCH_CHOSEN)
      continue()
    endif()
    set(source "${CMAKE_CURRENT_SOURCE_DIR}/kernels/${CMAKE_MATCH_1}.cu")
    set(cubin "${CMAKE_CURRENT_BINARY_DIR}/${name}.cubin")
    add_custom_command(
      OUTPUT "${cubin}"
      COMMAND "${MICROBENCH_NVCC}" -cubin "-arch=${CMAKE_MATCH_2}" -O3 -std=c++17 -Werror all-warnings
        -Xptxas -warn-spills,-warn-lmem-usage,-Werror -o "${cubin}" "${source}"
      DEPENDS "${source}" "${prelude}"
      COMMENT "${CMAKE_MATCH_1} for ${CMAKE_MATCH_2}"
      VERBATIM)
    list(APPEND cubins "${cubin}")
  endforeach()
  list(LENGTH cubins MICROBENCH_CUBIN_COUNT)
  add_custom_target(microbench_cubins ALL DEPENDS ${cubins})
  install(FILES ${cubins} DESTINATION microbench/cuda)
endif()
