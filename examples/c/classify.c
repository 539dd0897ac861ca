/* Runs a network on values read from standard input, as binary floats, and prints its first output.

   cc -I crates/compute/c/include examples/c/classify.c -L target/c/lib -lslq -lm -lpthread -ldl -o classify
   ./classify NETWORK.slq < image.f32 */
#include <stdio.h>
#include <stdlib.h>

#include "slq.h"

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, slq_error());
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: classify NETWORK.slq < image.f32\n");
        return 2;
    }
    slq_network *network = slq_open(argv[1], SLQ_EXPAND_AUTO);
    if (!network) return fail("the network cannot be opened");

    int64_t shape[8];
    int32_t rank = slq_input_shape(network, 0, shape, 8);
    if (rank < 0) return fail("input");
    if (rank > 8) {
        fprintf(stderr, "the input has %d dimensions\n", (int)rank);
        return 1;
    }
    size_t count = 1;
    for (int32_t d = 0; d < rank; d++) {
        if (shape[d] < 0) shape[d] = 1; /* the number of images is free */
        /* A file may say anything. */
        if (shape[d] > 0 && count > SIZE_MAX / sizeof(float) / (size_t)shape[d]) {
            fprintf(stderr, "the input does not fit into memory\n");
            return 1;
        }
        count *= (size_t)shape[d];
    }
    float *image = malloc(count * sizeof *image);
    if (!image || fread(image, sizeof *image, count, stdin) != count) {
        fprintf(stderr, "%zu values expected for input %s\n", count, slq_input_name(network, 0));
        return 1;
    }
    if (slq_set_input(network, 0, image, shape, (size_t)rank) != 0) return fail("input");
    if (slq_run(network) != 0) return fail("run");

    size_t length;
    const float *output = slq_output(network, 0, &length);
    if (!output) return fail("output");
    for (size_t i = 0; i < length; i++) printf("%.9g\n", output[i]);
    free(image);
    slq_close(network);
    return 0;
}
