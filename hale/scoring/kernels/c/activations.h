/* Activations, defined in hale/scoring/activations.py: each returns -h(x) log2(e) and sets
 * *slope = h'(x). */
#pragma once
#include "lanes.h"

#define LOG2E 1.44269504f

/* Each activation uses some of these; see hale/scoring/kernels/parameters.py. */
struct parameters {
    float rate, beta, gamma, limit, offset;
};

INLINE vec linear(vec x, struct parameters p, vec *slope) {
    *slope = splat(p.rate);
    return x * (-LOG2E * p.rate);
}

/* y = 1 / (1 + u), u = gamma exp(-beta (x - 1/2)) = exp(offset - beta x), h = gamma y. */
INLINE vec hanon(vec x, struct parameters p, vec *slope) {
    float beta = p.beta, gamma = p.gamma;
    vec exponent = LOG2E * p.offset - x * (LOG2E * beta);
    vec u = power2_within(at_most(100.0f, at_least(-126.0f, exponent)));
    vec y = reciprocal(1.0f + u);
    *slope = (beta * gamma) * y * (u * y);
    return y * (-LOG2E * gamma);
}

INLINE vec halin(vec x, struct parameters p, vec *slope) {
    float beta = p.beta, gamma = p.gamma;
    vec beyond = x * beta + (2.0f - beta);
    *slope = choose(x < 1.0f, splat(2.0f), choose(beyond > gamma, splat(0.0f), splat(beta)));
    return choose(x < 1.0f, x + x, at_most(gamma, beyond)) * -LOG2E;
}

INLINE vec xexp(vec x, struct parameters p, vec *slope) {
    vec power = power2(at_most(p.limit, x) * LOG2E);
    *slope = choose(x > p.limit, power, power + x * power);
    return x * power * -LOG2E;
}

INLINE vec artanh(vec x, struct parameters p, vec *slope) {
    (void)p;
    vec twice = 1.0f + x + x;
    *slope = 2.0f * reciprocal(twice);
    return -log2_positive(twice);
}
