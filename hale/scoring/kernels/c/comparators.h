/* Distance and its derivatives. Those of a linear comparator lack constant factors, which
 * dot_factor, sq_factor and query_factor give. */
struct compared {
    vec distance, by_dot, by_query_sq, by_entity_sq, by_scale;
};

#if defined(COMPARATOR_POINCARE)
enum { PLANES = 2 };
enum { NORM, OF_NORM_INVERSE, LIVE, ENTITY_FACTS };
enum { SCALE_ROOT, SCALE_INVERSE, NORM_INVERSE, SIDE, SINH, COSH, SIDE_BY_SQ, SIDE_BY_SCALE, FACTS };
#define TINY 1e-15f
#define REACH 30.0f

INLINE void describe_row(const struct sweep *s, int64_t row, float sq, float *fact, int64_t stride) {
    float scale = s->scale[row], norm = sqrtf(fmaxf(sq, TINY)), scale_root = sqrtf(scale);
    float edge = 1 - 4 * 1.1920929e-7f, radius = fminf(scale_root * norm, edge);
    float inside = scale_root * norm <= edge;
    float side = sq == sq ? 2 * atanhf(radius) : sq;
    fact[SCALE_ROOT * stride] = scale_root;
    fact[SCALE_INVERSE * stride] = 1 / scale;
    fact[NORM_INVERSE * stride] = 1 / norm;
    fact[SIDE * stride] = side;
    fact[SINH * stride] = sinhf(side);
    fact[COSH * stride] = coshf(side);
    fact[SIDE_BY_SQ * stride] = inside * (sq >= TINY) * scale_root / norm / (1 - radius * radius);
    fact[SIDE_BY_SCALE * stride] = inside * norm / scale_root / (1 - radius * radius);
}
INLINE void describe_entity(const struct sweep *s, float sq, float *fact) {
    (void)s;
    fact[NORM] = sqrtf(sq < TINY ? TINY : sq);
    fact[OF_NORM_INVERSE] = 1 / fact[NORM];
    fact[LIVE] = sq >= TINY;
}
INLINE vec start(const vec *row, const vec *entity) { return (void)row, (void)entity, splat(0); }
INLINE float dot_factor(const struct sweep *s, int64_t row) { return (void)s, (void)row, 1; }
INLINE float sq_factor(const struct sweep *s, int64_t row) { return (void)s, (void)row, 1; }
INLINE float query_factor(const struct sweep *s) { return (void)s, 1; }

/* The hyperbolic law of cosines, as in hale.scoring.comparators.Poincare. */
INLINE struct compared compare(
    const struct sweep *s, vec inner, const vec *row, const vec *entity) {
    (void)s;
    vec norm = entity[NORM], norm_inverse = entity[OF_NORM_INVERSE], live = entity[LIVE];
    vec side_b = 2.0f * norm * row[SCALE_ROOT];
    vec reached = (vec)((ivec)splat(1) & (side_b <= REACH));
    side_b = at_most(REACH, side_b);
    vec bend = power2((row[SIDE] - side_b) * (0.5f * LOG2E)), bend_inverse = reciprocal(bend);
    vec grown = (row[SINH] + row[COSH]) * bend_inverse * bend_inverse; /* exp(side_b) */
    vec grown_inverse = reciprocal(grown);
    vec sinh_b = 0.5f * (grown - grown_inverse), cosh_b = 0.5f * (grown + grown_inverse);
    vec sinh_half = 0.5f * (bend - bend_inverse), cosh_half = 0.5f * (bend + bend_inverse);
    vec by_dot = row[NORM_INVERSE] * norm_inverse, cosine = inner * by_dot;
    ivec bent = (cosine <= 1.0f) & (cosine >= -1.0f);
    cosine = at_most(1.0f, at_least(-1.0f, cosine));
    vec away = 0.5f * (1.0f - cosine), sinh_product = row[SINH] * sinh_b;
    vec half = sinh_half * sinh_half + sinh_product * away;
    vec held = (vec)((ivec)splat(1) & (half >= TINY));
    half = at_least(TINY, half);
    vec half_root = root(half), next_root = root(1.0f + half);
    vec series = 1.0f - half * (0.16666667f - half * 0.075f); /* asinh(z) / z, z^2 = half */
    vec arc = choose(half < 1e-3f, half_root * series,
                     log2_positive(half_root + next_root) * 0.69314718f);
    vec scale_inverse = row[SCALE_INVERSE];
    vec distance = 4.0f * arc * arc * scale_inverse;
    vec by_half = held * 4.0f * scale_inverse * arc * reciprocal(half_root * next_root);
    vec turned = sinh_half * cosh_half; /* sinh(A - B) / 2 */
    vec by_a = by_half * (turned + row[COSH] * sinh_b * away);
    vec by_b = by_half * reached * (row[SINH] * cosh_b * away - turned);
    vec by_cosine = (vec)((ivec)(by_half * sinh_product * -0.5f) & bent);
    vec norm_inverse_row = row[NORM_INVERSE];
    vec falling = -0.5f * by_cosine * cosine;
    struct compared result = {
        .distance = distance,
        .by_dot = by_cosine * by_dot,
        .by_query_sq = by_a * row[SIDE_BY_SQ] + falling * norm_inverse_row * norm_inverse_row,
        .by_entity_sq = live * (by_b * row[SCALE_ROOT] + falling * norm_inverse) * norm_inverse,
        .by_scale = by_a * row[SIDE_BY_SCALE] + by_b * norm * reciprocal(row[SCALE_ROOT])
            - distance * scale_inverse,
    };
    return result;
}
#else
enum { PLANES = 1, ENTITY_FACTS = 1 };
enum { GAIN, BASE, FACTS };

INLINE void describe_row(const struct sweep *s, int64_t row, float sq, float *fact, int64_t stride) {
    fact[GAIN * stride] = s->scale[row];
    fact[BASE * stride] = s->norms != 0 ? s->norms * sq : 0;
}
INLINE void describe_entity(const struct sweep *s, float sq, float *fact) {
    *fact = s->norms != 0 ? s->norms * sq : 0;
}
INLINE vec start(const vec *row, const vec *entity) { return row[BASE] + *entity; }
INLINE float dot_factor(const struct sweep *s, int64_t row) { return s->product * s->scale[row]; }
INLINE float sq_factor(const struct sweep *s, int64_t row) { return s->norms * s->scale[row]; }
INLINE float query_factor(const struct sweep *s) { return s->product; }

INLINE struct compared compare(
    const struct sweep *s, vec inner, const vec *row, const vec *entity) {
    vec one = splat(1), held = at_least(s->floor, inner);
    (void)entity;
    return (struct compared){row[GAIN] * held, one, one, one, held};
}
#endif

