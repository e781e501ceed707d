// The table of a source's kernels, as Python sees it. translating.py puts it at the end of the source.

#pragma once

#include <type_traits>

// Calls a kernel with its arguments read from memory, and says of what types they are: "*f4 *cf4 i4" for
// (float*, const float*, int).
namespace emulator {

struct Kernel {  // the same as in compiling.py
    const char *name, *types;
    void (*call)(void**);
    int largest;  // the number of threads in __launch_bounds__, or 0
};

template <class... Others>
static constexpr int first(int number = 0, Others...) {
    return number;
}

template <class T>
static char* describe(char* to) {
    using plain = std::remove_cv_t<std::remove_pointer_t<T>>;
    if constexpr (std::is_pointer_v<T>) *to++ = '*';
    if constexpr (std::is_pointer_v<T> && std::is_const_v<std::remove_pointer_t<T>>) *to++ = 'c';
    if constexpr (std::is_void_v<plain>)
        *to++ = 'v';
    else {
        *to++ = std::is_same_v<plain, bool> ? 'b' : std::is_floating_point_v<plain> ? 'f'
              : !std::is_integral_v<plain> ? 'V' : std::is_signed_v<plain> ? 'i' : 'u';
        to += __builtin_sprintf(to, "%d", int(sizeof(plain)));
    }
    *to++ = ' ';
    return to;
}

template <int... I>
struct Numbers {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
    using type = Numbers<I...>;
};

template <class... P, int... I>
static void call(void (*kernel)(P...), [[maybe_unused]] void** arguments, Numbers<I...>) {
    kernel(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
}
template <auto kernel, class... P>
static Kernel make(const char* name, int largest, void (*)(P...)) {
    static char types[16 * sizeof...(P) + 1];
    char* end = types;
    ((end = describe<P>(end)), ...);
    return {name, types, [](void** arguments) { call(kernel, arguments, typename Count<sizeof...(P)>::type()); }, largest};
}
template <auto kernel>
static Kernel make(const char* name, int largest) {
    return make<kernel>(name, largest, kernel);
}

}  // namespace emulator
