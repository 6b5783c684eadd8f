/* Scores of chosen entities, a number of them for each query, and their gradients: a register of
 * pairs at a time, without copying the entities' vectors.
 *
 * hale_chosen          scores, and their derivatives by the arguments of the comparator
 * hale_chosen_backward gradients from these; each thread sums over its own entities in the order of
 *                      the pairs, so the result does not depend on the number of threads
 */
#include "sweep.h"

enum { BY_DOT, BY_QUERY_SQ, BY_ENTITY_SQ, BY_SCALE, DERIVATIVES };
enum { FLOATS_OF_A_THREAD = 1 << 16 }; /* fewer are not worth another thread */

int64_t hale_derivative_floats(int64_t pairs) { return DERIVATIVES * padded(pairs, LANES); }

INLINE float inner_product(const float *left, const float *right, int64_t dim) {
    vec total = {0};
    for (int64_t k = 0; k < dim; k += LANES)
        total += load_part(left + k, dim - k) * load_part(right + k, dim - k);
    return sum(total);
}

static int chosen_chunk(struct work *w, int64_t first, int64_t last, int64_t chunk, float *memory) {
    const struct sweep *s = w->s;
    const int64_t pairs = s->rows * s->columns, plane = padded(pairs, LANES);
    float row_fact[FACTS] = {0}, entity_fact[ENTITY_FACTS], dot_gain = 0, sq_gain = 0;
    int64_t described = -1;
    (void)chunk, (void)memory;
    for (int64_t tile = first; tile < last; tile++) {
        const int64_t begin = tile * LANES, count = smaller(LANES, pairs - begin);
        vec row_facts[FACTS], entity_facts[ENTITY_FACTS], dot = {0}, by_dot = {0}, by_sq = {0};
        for (int64_t lane = 0; lane < LANES; lane++) {
            const int64_t pair = begin + smaller(lane, count - 1), row = pair / s->columns;
            const float *query = s->query + row * s->dim;
            const float *entity = s->entity + s->chosen[pair] * s->dim;
            if (row != described) {
                describe_row(s, row, inner_product(query, query, s->dim), row_fact, 1);
                dot_gain = dot_factor(s, row), sq_gain = sq_factor(s, row);
                described = row;
            }
            describe_entity(s, inner_product(entity, entity, s->dim), entity_fact);
            dot[lane] = inner_product(query, entity, s->dim);
            by_dot[lane] = dot_gain, by_sq[lane] = sq_gain;
            for (int i = 0; i < FACTS; i++) row_facts[i][lane] = row_fact[i];
            for (int i = 0; i < ENTITY_FACTS; i++) entity_facts[i][lane] = entity_fact[i];
        }
        vec inner = start(row_facts, entity_facts) + query_factor(s) * dot, slope;
        struct compared x = compare(s, inner, row_facts, entity_facts);
        vec score = ACTIVATION(x.distance, s->activation, &slope) * (1 / LOG2E);
        store_part(s->score + begin, score, count);
        if (!s->derivatives) continue;
        float *to = s->derivatives + begin;
        store(to + BY_DOT * plane, -slope * x.by_dot * by_dot);
        store(to + BY_QUERY_SQ * plane, -slope * x.by_query_sq * by_sq);
        store(to + BY_ENTITY_SQ * plane, -slope * x.by_entity_sq * by_sq);
        store(to + BY_SCALE * plane, -slope * x.by_scale);
    }
    return 0;
}

/* to += a x + b y */
INLINE void add_two(float *to, float a, const float *x, float b, const float *y, int64_t dim) {
    for (int64_t k = 0; k < dim; k += LANES)
        store_part(to + k, load_part(to + k, dim - k) + a * load_part(x + k, dim - k)
                   + b * load_part(y + k, dim - k), dim - k);
}

/* Gradients of the queries and scales of some rows. */
static int row_chunk(struct work *w, int64_t first, int64_t last, int64_t chunk, float *memory) {
    const struct sweep *s = w->s;
    const int64_t plane = padded(s->rows * s->columns, LANES);
    (void)chunk, (void)memory;
    for (int64_t row = first; row < last; row++) {
        const float *query = s->query + row * s->dim;
        float *to = memset(s->query_gradient + row * s->dim, 0, s->dim * sizeof(float));
        float by_scale = 0;
        for (int64_t pair = row * s->columns; pair < (row + 1) * s->columns; pair++) {
            const float *by = s->derivatives + pair, upstream = s->upstream[pair];
            add_two(to, upstream * by[BY_DOT * plane], s->entity + s->chosen[pair] * s->dim,
                    2 * upstream * by[BY_QUERY_SQ * plane], query, s->dim);
            by_scale += upstream * by[BY_SCALE * plane];
        }
        s->scale_gradient[row] = by_scale;
    }
    return 0;
}

/* Adds the gradients of every `chunks`-th entity, starting with `chunk`. */
static int entity_chunk(struct work *w, int64_t first, int64_t last, int64_t chunk, float *memory) {
    const struct sweep *s = w->s;
    const int64_t pairs = s->rows * s->columns, plane = padded(pairs, LANES);
    (void)first, (void)last, (void)memory;
    for (int64_t pair = 0; pair < pairs; pair++) {
        const int64_t entity = s->chosen[pair];
        if (entity % w->chunks != chunk) continue;
        const float *by = s->derivatives + pair, upstream = s->upstream[pair];
        add_two(s->entity_gradient + entity * s->dim,
                upstream * by[BY_DOT * plane], s->query + pair / s->columns * s->dim,
                2 * upstream * by[BY_ENTITY_SQ * plane], s->entity + entity * s->dim, s->dim);
    }
    return 0;
}

/* Distributes `tiles` over the threads, fewer of them for little work. */
static int deal(struct work *w, int64_t tiles,
                int (*chunk)(struct work *, int64_t, int64_t, int64_t, float *)) {
    const int64_t floats = w->s->rows * w->s->columns * w->s->dim;
    w->tiles = tiles;
    w->chunks = smaller(smaller(w->s->threads, floats / FLOATS_OF_A_THREAD + 1), tiles);
    run((struct team){w, chunk, 1});
    return w->failed;
}

/* Returns 0, 1 if out of memory, 2 if an entity is out of range. */
int hale_chosen(const struct sweep *s) {
    const int64_t pairs = s->rows * s->columns;
    for (int64_t pair = 0; pair < pairs; pair++)
        if (s->chosen[pair] < 0 || s->chosen[pair] >= s->entities) return 2;
    struct work w = {.s = s};
    return deal(&w, parts(pairs, LANES), chosen_chunk);
}

/* Writes the gradients of queries and scales, adds those of entities. Returns 0, or 1 if out of
 * memory. */
int hale_chosen_backward(const struct sweep *s) {
    struct work w = {.s = s};
    return deal(&w, s->rows, row_chunk) || deal(&w, s->entities, entity_chunk);
}
