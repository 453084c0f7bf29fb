// Dumps what the ap_fixed headers make of every code of a source type, and of given doubles: one byte per conversion,
// the raw bits of the result. The calls (and with them the table of types) come from the test, in CALLS_FILE.
#include "ap_fixed.h"

#include <cstdio>
#include <vector>

static std::vector<double> doubles;

template <int W, typename Target> void put(const Target &target) {
    std::putchar((int)(unsigned)target.V.get_VAL() & ((1 << W) - 1));
}

template <int W, int I, bool S, ap_q_mode Q, ap_o_mode O, int W2, int I2, bool S2> struct FromCodes {
    static void run() {
        const int first = S2 ? -(1 << (W2 - 1)) : 0;
        ap_fixed_base<W2, I2, S2> source;
        for (int code = first; code < first + (1 << W2); ++code) {
            source.V = code;
            put<W>(ap_fixed_base<W, I, S, Q, O>(source));
        }
    }
};

template <int W, int I, bool S, ap_q_mode Q, ap_o_mode O, int, int, bool> struct FromDoubles {
    static void run() {
        for (double value : doubles)
            put<W>(ap_fixed_base<W, I, S, Q, O>(value));
    }
};

template <template <int, int, bool, ap_q_mode, ap_o_mode, int, int, bool> class From, int W, int I, bool S, ap_q_mode Q,
          int W2, int I2, bool S2>
void overflow_modes() {
    From<W, I, S, Q, AP_SAT, W2, I2, S2>::run();
    From<W, I, S, Q, AP_SAT_ZERO, W2, I2, S2>::run();
    From<W, I, S, Q, AP_SAT_SYM, W2, I2, S2>::run();
    From<W, I, S, Q, AP_WRAP, W2, I2, S2>::run();
}

template <template <int, int, bool, ap_q_mode, ap_o_mode, int, int, bool> class From, int W, int I, bool S, int W2 = 1,
          int I2 = 1, bool S2 = false>
void all_modes() {
    overflow_modes<From, W, I, S, AP_RND, W2, I2, S2>();
    overflow_modes<From, W, I, S, AP_RND_ZERO, W2, I2, S2>();
    overflow_modes<From, W, I, S, AP_RND_MIN_INF, W2, I2, S2>();
    overflow_modes<From, W, I, S, AP_RND_INF, W2, I2, S2>();
    overflow_modes<From, W, I, S, AP_RND_CONV, W2, I2, S2>();
    overflow_modes<From, W, I, S, AP_TRN, W2, I2, S2>();
    overflow_modes<From, W, I, S, AP_TRN_ZERO, W2, I2, S2>();
}

int main(int, char **arguments) {
    std::FILE *file = std::fopen(arguments[1], "rb");
    for (double value; std::fread(&value, sizeof value, 1, file) == 1;)
        doubles.push_back(value);
#include CALLS_FILE
}
