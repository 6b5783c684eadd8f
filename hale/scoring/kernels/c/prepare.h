/* Preparation of the forward pass: transposes queries into blocks, checks known entities. */
#pragma once
#include "sweep.h"

static void prepare_queries(struct work *w) {
    const struct sweep *s = w->s;
    for (int64_t row = 0; row < w->tape.rows; row++) {
        const int64_t width = smaller(WIDTH, w->tape.rows - row / WIDTH * WIDTH);
        float *query = w->query + row / WIDTH * WIDTH * s->dim + row % WIDTH;
        double square = 0;
        for (int64_t k = 0; k < s->dim; k++) {
            float value = row < s->rows ? s->query[row * s->dim + k] : 0;
            query[k * width] = query_factor(s) * value;
            square += (double)value * value;
        }
        if (row < s->rows) describe_row(s, row, square, w->facts + row, w->tape.rows);
        else for (int i = 0; i < FACTS; i++) w->facts[i * w->tape.rows + row] = 1;
    }
}

/* Whether each row's known entities ascend and are in range; the forward pass relies on it. */
static int known_ascend(const struct sweep *s) {
    for (int64_t row = 0; row < s->rows; row++) {
        int64_t start = s->known_start[row], stop = s->known_stop[row], falls = 0;
        if (start >= stop) continue;
        for (int64_t i = start + 1; i < stop; i++) falls |= s->known[i] <= s->known[i - 1];
        if (falls || s->known[start] < 0 || s->known[stop - 1] >= s->entities) return 0;
    }
    return 1;
}
