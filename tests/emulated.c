/* Runs the kernels on arguments from a file, for processors that are emulated: see
 * test_emulated.py, which writes them and reads the results. */
#include "../hale/scoring/kernels/c/sweep.h"
#include <stdio.h>

extern int hale_forward(const struct sweep *), hale_backward(const struct sweep *);
extern int hale_chosen(const struct sweep *), hale_chosen_backward(const struct sweep *);
extern int64_t hale_weight_bytes(const struct sweep *), hale_tape_floats(int64_t, int64_t);
extern int64_t hale_derivative_floats(int64_t);
extern const char *hale_variant(void);

/* The next array of `count` items, each of `size` bytes; NULL if it has none. */
static void *array(FILE *file, int64_t count, int64_t size) {
    int64_t given;
    if (fread(&given, 8, 1, file) != 1) exit(10);
    if (!given) return NULL;
    if (given != count) exit(11);
    void *memory = allocate(parts(count * size, 4));
    if (fread(memory, size, count, file) != (size_t)count) exit(12);
    return memory;
}

static float *zeros(int64_t count) {
    float *memory = allocate(count);
    for (int64_t i = 0; i < count; i++) memory[i] = 0;
    return memory;
}

int main(int count, char **names) {
    FILE *in = fopen(names[1], "rb"), *out = fopen(names[2], "wb");
    int64_t sizes[5];
    struct sweep s = {0};
    if (count != 3 || !in || !out || fread(sizes, 8, 5, in) != 5) return 13;
    s.rows = sizes[0], s.entities = sizes[1], s.dim = sizes[2], s.columns = sizes[3], s.threads = 2;
    float *constants = array(in, 8, 4);
    s.norms = constants[0], s.product = constants[1], s.floor = constants[2];
    __builtin_memcpy(&s.activation, constants + 3, 5 * sizeof(float));
    s.query = array(in, s.rows * s.dim, 4);
    s.scale = array(in, s.rows, 4);
    s.entity = array(in, s.entities * s.dim, 4);
    s.known_start = array(in, s.rows, 8);
    s.known_stop = array(in, s.rows, 8);
    s.known = array(in, sizes[4], 8);
    s.order = array(in, s.entities, 8);
    s.place = array(in, s.entities, 8);
    s.log_weight = array(in, parts(s.rows, GROUP) * parts(s.entities, TILE), 4);
    s.upstream = array(in, s.rows, 4);
    s.chosen = array(in, s.rows * s.columns, 8);
    const float *score_upstream = array(in, s.rows * s.columns, 4);

    s.tape = allocate(hale_tape_floats(s.rows, s.dim));
    s.weights = (weight *)allocate(parts(hale_weight_bytes(&s), 4));
    s.derivatives = allocate(hale_derivative_floats(s.rows * s.columns));
    s.lse = zeros(s.rows), s.score = zeros(s.rows * s.columns);
    float *gradients[2][3];
    for (int pass = 0; pass < 2; pass++) {
        s.query_gradient = gradients[pass][0] = zeros(s.rows * s.dim);
        s.scale_gradient = gradients[pass][1] = zeros(s.rows);
        s.entity_gradient = gradients[pass][2] = zeros(s.entities * s.dim);
        if (pass == 0 && (hale_forward(&s) || hale_backward(&s))) return 14;
        if (pass == 1) {
            s.upstream = score_upstream;
            if (hale_chosen(&s) || hale_chosen_backward(&s)) return 15;
        }
    }
    fwrite(s.lse, 4, s.rows, out);
    fwrite(s.score, 4, s.rows * s.columns, out);
    for (int pass = 0; pass < 2; pass++) {
        fwrite(gradients[pass][0], 4, s.rows * s.dim, out);
        fwrite(gradients[pass][1], 4, s.rows, out);
        fwrite(gradients[pass][2], 4, s.entities * s.dim, out);
    }
    puts(hale_variant());
    return fclose(out);
}
