/* The gradients, at any upstream gradient, from what the forward pass kept. */
#include "sweep.h"

static int backward_chunk(struct work *w, int64_t first_tile, int64_t last_tile, int64_t chunk,
                          float *memory) {
    const struct sweep *s = w->s;
    const int64_t rows = w->tape.rows, lanes = rows / PAIR, dim = s->dim;
    const int64_t end = smaller(last_tile * TILE, s->entities);
    (void)chunk, (void)memory;
    for (int64_t begin = first_tile * TILE; begin < end; begin += BLOCK) {
        const float *weights = (const float *)(s->weights + begin * rows);
        const float *squares = (const float *)(
            s->weights + ((PLANES - 1) * padded(s->entities, TILE) + begin) * rows);
        float by_square[BLOCK];
        for (int j = 0; j < BLOCK; j++) {
            const float *row = squares + j * lanes;
            vec total = {0};
            int64_t lane = 0;
            for (; lane + LANES <= lanes; lane += LANES)
                total = dot(total, load(row + lane), load(w->square + lane));
            if (lane < lanes) /* what lies past the row may be anything, NaN too */
                total = dot(total, first_half(load(row + lane)), load(w->square + lane));
            by_square[j] = 2 * sum(total);
        }
        for (int64_t k = 0; k < dim; k += 2 * LANES) {
            vec total[BLOCK][2] = {{{0}}};
            int vectors = k + LANES < dim ? 2 : 1;
            if (vectors > 1)
                multiply(1, 2, lanes, weights, lanes, 1, w->right + k, w->tape.dim, total);
            else
                multiply(1, 1, lanes, weights, lanes, 1, w->right + k, w->tape.dim, total);
            for (int64_t j = 0; j < BLOCK && begin + j < end; j++)
                for (int v = 0; v < vectors; v++) {
                    int64_t at = (begin + j) * dim + k + v * LANES, count = dim - k - v * LANES;
                    vec value = total[j][v] + by_square[j] * load_part(s->entity + at, count);
                    if (s->accumulate) value += load_part(s->entity_gradient + at, count);
                    store_part(s->entity_gradient + at, value, count);
                }
        }
    }
    return 0;
}

/* Scales the queries by what their row's upstream gradient and sum make of their weights. */
static void prepare_backward(struct work *w) {
    const struct sweep *s = w->s;
    const struct tape *tape = &w->tape;
    for (int64_t row = 0; row < tape->rows; row += LANES) {
        vec by_square = {0};
        for (int64_t lane = 0; lane < LANES && row + lane < s->rows; lane++) {
            int64_t i = row + lane;
            float factor = tape->sums[i] != 0 ? -s->upstream[i] / tape->sums[i] : 0;
            float by_dot = factor * dot_factor(s, i);
            by_square[lane] = factor * sq_factor(s, i);
            float by_self = 2 * by_square[lane] * tape->sums[QUERY_SQ * tape->rows + i];
            s->scale_gradient[i] = factor * tape->sums[SCALE * tape->rows + i];
            for (int64_t k = 0; k < s->dim; k++)
                s->query_gradient[i * s->dim + k] =
                    by_dot * tape->product[i * tape->dim + k] + by_self * s->query[i * s->dim + k];
        }
        store_weights((weight *)w->square + row, by_square);
        for (int64_t lane = 0; lane < LANES; lane += PAIR)
            for (int64_t k = 0; k < s->dim; k += LANES) {
                vec value[PAIR] = {{0}};
                for (int64_t p = 0; p < PAIR && row + lane + p < s->rows; p++) {
                    int64_t i = row + lane + p;
                    float factor = tape->sums[i] != 0 ? -s->upstream[i] / tape->sums[i] : 0;
                    value[p] = factor * dot_factor(s, i)
                        * load_part(s->query + i * s->dim + k, s->dim - k);
                }
                store(w->right + (row + lane) / PAIR * tape->dim + k, pair(value, PAIR - 1));
            }
    }
}

/* Returns 0, or 1 without memory. */
int hale_backward(const struct sweep *s) {
    struct work w = {.s = s, .tape = tape_at(s->tape, s->rows, s->dim)};
    w.tiles = parts(s->entities, TILE);
    w.chunks = smaller(w.tiles, MAX_CHUNKS);
    w.right = allocate(w.tape.rows / PAIR * w.tape.dim);
    w.square = allocate(w.tape.rows / PAIR + LANES);
    w.failed = !w.right || !w.square;
    if (!w.failed) {
        memset(w.square, 0, (w.tape.rows / PAIR + LANES) * sizeof(float));
        prepare_backward(&w);
        run((struct team){&w, backward_chunk, 1});
    }
    free(w.right), free(w.square);
    return w.failed;
}
