/* slq.h: runs palettized networks with their weights packed.

   Functions that return a pointer give NULL on error, those that return int32_t give -1; slq_error() then has the text.
   The error text belongs to the calling thread. A network may be used by one thread at a time. No function unwinds or
   exits: a defect inside the library is an error, too. Computation uses one thread for each core; the environment
   variable RAYON_NUM_THREADS sets another number.

   Written by hand; tests/interface.rs compares it with src/ffi.rs. */
#ifndef SLQ_H
#define SLQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A loaded network with its inputs and the outputs of its last run. */
typedef struct slq_network slq_network;

/* What becomes floats when a network is loaded. */
#define SLQ_EXPAND_AUTO 0 /* layers below 256 KB as floats, 2 MB in all */
#define SLQ_EXPAND_ALL 1  /* every layer: the speed of float kernels at the memory of the float network */
#define SLQ_EXPAND_NONE 2 /* only what must be */

/* Text of the last error of this thread; valid until its next error. Never NULL. */
const char *slq_error(void);

/* Version of the library, such as "0.2.0". */
const char *slq_version(void);

/* Opens a .slq container or a palettized ONNX file. `path` is UTF-8. */
slq_network *slq_open(const char *path, int32_t expand_what);

/* Reads a .slq container of `length` bytes in memory, which are not needed afterwards. */
slq_network *slq_open_bytes(const uint8_t *bytes, size_t length, int32_t expand_what);

/* Closes a network; NULL is allowed. Pointers to its names and outputs end with it. */
void slq_close(slq_network *network);

/* Number of inputs and outputs; 0 on error. */
size_t slq_inputs(const slq_network *network);
size_t slq_outputs(const slq_network *network);

/* Name of input or output `i`, valid until the network is closed. */
const char *slq_input_name(const slq_network *network, size_t i);
const char *slq_output_name(const slq_network *network, size_t i);

/* Declared shape of input `i`: returns its rank and writes up to `capacity` extents to `dims` (NULL is allowed), -1 for a
   free one such as the number of images. */
int32_t slq_input_shape(const slq_network *network, size_t i, int64_t *dims, size_t capacity);

/* Shape of output `i` in the same way: that of the last run; before the first one, the declared shape. */
int32_t slq_output_shape(const slq_network *network, size_t i, int64_t *dims, size_t capacity);

/* Copies the values of input `i`, in row-major order; their number is the product of `dims`. Returns 0. */
int32_t slq_set_input(slq_network *network, size_t i, const float *values, const int64_t *dims, size_t rank);

/* Runs the network on its inputs. Returns 0. */
int32_t slq_run(slq_network *network);

/* Values of output `i` of the last run as floats, valid until the next one; their number goes to `length` unless that is
   NULL. */
const float *slq_output(const slq_network *network, size_t i, size_t *length);

#ifdef __cplusplus
}
#endif

#endif
