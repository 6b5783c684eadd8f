/* Adds rows to the rows of a table that are named, in their order. */
#include "lanes.h"

/* Returns 0, or 2 where an id is no row of the table; nothing is added then. */
int hale_add_rows(float *table, int64_t table_rows, const float *row, const int64_t *id, int64_t rows,
                  int64_t columns) {
    for (int64_t i = 0; i < rows; i++)
        if (id[i] < 0 || id[i] >= table_rows) return 2;
    for (int64_t i = 0; i < rows; i++) {
        float *to = table + id[i] * columns;
        const float *from = row + i * columns;
        int64_t k = 0;
        for (; k + LANES <= columns; k += LANES) store(to + k, load(to + k) + load(from + k));
        for (; k < columns; k++) to[k] += from[k];
    }
    return 0;
}
