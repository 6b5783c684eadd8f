/* Activations: each returns -h(x) log2(e) and sets *slope = h'(x). See hale/activations.py. */
#pragma once
#include "lanes.h"

#define LOG2E 1.44269504f

INLINE vec linear(vec x, float rate, float unused, vec *slope) {
    (void)unused;
    *slope = splat(rate);
    return x * (-LOG2E * rate);
}

/* y = 1 / (1 + u), u = gamma exp(-beta (x - 1/2)), h = gamma y. */
INLINE vec hanon(vec x, float beta, float gamma, vec *slope) {
    float offset = LOG2E * 0.5f * beta + log2f(gamma);
    vec u = power2(at_most(100.0f, offset - x * (LOG2E * beta)));
    vec y = reciprocal(1.0f + u);
    *slope = (beta * gamma) * y * (u * y);
    return y * (-LOG2E * gamma);
}

INLINE vec halin(vec x, float beta, float gamma, vec *slope) {
    vec beyond = x * beta + (2.0f - beta);
    *slope = choose(x < 1.0f, splat(2.0f), choose(beyond > gamma, splat(0.0f), splat(beta)));
    return choose(x < 1.0f, x + x, at_most(gamma, beyond)) * -LOG2E;
}

INLINE vec xexp(vec x, float limit, float unused, vec *slope) {
    (void)unused;
    vec power = power2(at_most(limit, x) * LOG2E);
    *slope = choose(x > limit, power, power + x * power);
    return x * power * -LOG2E;
}

INLINE vec artanh(vec x, float unused, float unused_too, vec *slope) {
    (void)unused, (void)unused_too;
    vec twice = 1.0f + x + x;
    *slope = 2.0f * reciprocal(twice);
    return -log2_positive(twice);
}
