// What the arrays of streams hold, as functions of the element's index: exact in f32 and f64, different at every place
// that matters. A kernel must leave in its destination what these say.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace mb::stream {

enum class op { read, write, copy, triad };

inline std::uint32_t own_number(std::size_t i) { return static_cast<std::uint32_t>(i); }
inline std::uint32_t written(std::size_t i) { return i % 2 == 0 ? 0x3fa00000 : 0x40100000; }
template <class T>
T addend(std::size_t i) {
  return static_cast<T>(i % 65521);
}
template <class T>
T factor(std::size_t i) {
  return static_cast<T>(i / 16 % 251);
}
inline constexpr int scale = 3;
template <class T>
T triad_sum(std::size_t i) {
  return addend<T>(i) + scale * factor<T>(i);
}

template <auto content>
struct contents {
  using element = decltype(content(0));

  static void fill(std::byte* array, std::size_t first, std::size_t last) {
    for (auto i = first / sizeof(element); i < last / sizeof(element); ++i) {
      const element value = content(i);
      std::memcpy(array + i * sizeof value, &value, sizeof value);
    }
  }
  static bool intact(const std::byte* array, std::size_t first, std::size_t last) {
    for (auto i = first / sizeof(element); i < last / sizeof(element); ++i) {
      const element value = content(i);
      if (std::memcmp(array + i * sizeof value, &value, sizeof value) != 0) return false;
    }
    return true;
  }
};

using numbered = contents<own_number>;
template <class T>
using addends = contents<addend<T>>;
template <class T>
using factors = contents<factor<T>>;

// What a kernel must leave in its destination.
template <op what, class T>
using destination = std::conditional_t<what == op::write, contents<written>,
                                       std::conditional_t<what == op::copy, numbered, contents<triad_sum<T>>>>;

constexpr std::size_t arrays_of(op what) { return what == op::triad ? 3 : what == op::copy ? 2 : 1; }

inline const char* word_of(op what) {
  constexpr std::array words{"read", "write", "copy", "triad"};
  return words[static_cast<std::size_t>(what)];
}

inline const char* says_of(op what) {
  constexpr std::array says{"reads one array", "writes one array", "copies one array to another",
                            "a[i] = b[i] + 3 * c[i]"};
  return says[static_cast<std::size_t>(what)];
}

}  // namespace mb::stream
