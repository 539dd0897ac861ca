/* Faults for scripts/torture, by LD_PRELOAD into one process:
 *
 *   TORTURE_FAIL_WRITE=N   the N-th write, sync or rename of a file fails with "no space left on device"
 *   TORTURE_COUNT=FILE     the number of such calls is written to FILE at the end
 *   TORTURE_CLOCK=1        the time of day goes back an hour with every look at it
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long calls;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whether this call is the one that fails. */
static int fails(void) {
    const char *at = getenv("TORTURE_FAIL_WRITE");
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    return at && call == atol(at);
}

/* Terminals and pipes are not meant. */
static int is_file(int fd) {
    struct stat found;
    return fd > 2 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
}

static int refuse(void) {
    errno = ENOSPC;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return is_file(fd) && fails() ? refuse() : REAL(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_file(fd) && fails() ? refuse() : REAL(writev)(fd, parts, count);
}

int fsync(int fd) {
    return is_file(fd) && fails() ? refuse() : REAL(fsync)(fd);
}

int rename(const char *from, const char *to) {
    return fails() ? refuse() : REAL(rename)(from, to);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static long looks;
    int done = REAL(clock_gettime)(clock, now);
    if (done == 0 && clock == CLOCK_REALTIME && getenv("TORTURE_CLOCK"))
        now->tv_sec -= 3600 * __atomic_add_fetch(&looks, 1, __ATOMIC_SEQ_CST);
    return done;
}

__attribute__((destructor)) static void count(void) {
    const char *path = getenv("TORTURE_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", calls);
        fclose(file);
    }
}
