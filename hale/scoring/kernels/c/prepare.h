/* Preparation of the forward pass: transposes queries into blocks, sorts known entities by tile. */
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
        for (int64_t i = start + 1; i < stop; i++) falls |= known_at(s, i) <= known_at(s, i - 1);
        if (falls || known_at(s, start) < 0 || known_at(s, stop - 1) >= s->entities) return 0;
    }
    return 1;
}

/* Sets `known`. Returns whether there was memory. */
static int sort_known(struct work *w) {
    const struct sweep *s = w->s;
    struct known *known = &w->known;
    int64_t total = 0;
    for (int64_t row = 0; any_known(s) && row < s->rows; row++)
        if (s->known_stop[row] > s->known_start[row]) total += s->known_stop[row] - s->known_start[row];
    if (!total) return 1;
    known->first = allocate(2 * (w->tiles + 2));
    known->at = allocate(2 * total);
    if (!known->first || !known->at) return 0;
    memset(known->first, 0, (w->tiles + 2) * sizeof *known->first);
    for (int filling = 0; filling < 2; filling++) { /* first counts the tile before, then fills */
        int64_t *next = known->first + 2 - filling;
        for (int64_t row = 0; row < s->rows; row++)
            for (int64_t i = s->known_start[row]; i < s->known_stop[row]; i++) {
                int64_t place = s->place ? s->place[known_at(s, i)] : known_at(s, i);
                if (filling) known->at[next[place / TILE]++] = row * TILE + place % TILE;
                else next[place / TILE]++;
            }
        for (int64_t tile = 0; !filling && tile < w->tiles; tile++)
            known->first[tile + 2] += known->first[tile + 1];
    }
    return 1;
}
