/* Before the forward pass: queries transposed into blocks, pairs sorted into tiles and blocks. */
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

/* Counting sort of the pairs by tile and block; fails on an entity out of range. */
static int sort_pairs(struct work *w) {
    const struct sweep *s = w->s;
    int64_t *bucket = w->bucket;
    for (int turn = 0; turn < 2; turn++) {
        for (int64_t i = 0; i < s->pairs; i++) {
            int64_t row = s->pair_row[i] - s->first_row, entity = s->pair_entity[i];
            if (entity < 0 || entity >= s->entities) return 1;
            if (row < 0 || row >= s->rows) continue;
            int64_t at = entity / TILE * w->blocks + row / WIDTH;
            if (turn == 0) bucket[at + 2]++;
            else w->pair[bucket[at + 1]++] = entity % TILE * WIDTH + row % WIDTH;
        }
        for (int64_t at = 2; turn == 0 && at <= w->tiles * w->blocks; at++) bucket[at] += bucket[at - 1];
    }
    return 0;
}
