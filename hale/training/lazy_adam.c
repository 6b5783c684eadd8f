#include <math.h>
#include <stdint.h>

/* The arguments of hale_lazy_adam beside the rows; `correction` is 1 / sqrt(1 - beta2^t). */
struct step {
    int64_t columns;
    float rate, beta1, beta2, eps, correction, decay;
};

static int is_zero(const float *row, int64_t columns) {
    int other = 0;
    for (int64_t i = 0; i < columns; i++) other |= row[i] != 0; /* true of NaN */
    return !other;
}

void hale_lazy_adam(float *parameter, const float *gradient, float *first, float *second,
                    int64_t rows, const struct step *s) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t start = r * s->columns;
        if (is_zero(gradient + start, s->columns)) continue;
        for (int64_t i = start; i < start + s->columns; i++) {
            float g = gradient[i] + s->decay * parameter[i];
            float m = first[i] += (1 - s->beta1) * (g - first[i]);
            float v = second[i] = s->beta2 * second[i] + (1 - s->beta2) * g * g;
            parameter[i] -= s->rate * m / (sqrtf(v) * s->correction + s->eps);
        }
    }
}
