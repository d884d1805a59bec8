/* A disk that obeys a test: preloaded into a node, it answers what the node asks of its log as the file named by
 * BAD_DISK_ORDERS says. "stall": nothing comes back while it says so. "error": each call fails with EIO. Anything else,
 * or no such file: the disk works. Only files whose name begins with "wal-" are touched. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { LOOK_US = 2000 };

static char order(void) {
    const char *path = getenv("BAD_DISK_ORDERS");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    char first = 0;
    ssize_t length = read(file, &first, 1);
    close(file);
    return length == 1 ? first : 0;
}

static int is_of_the_log(int descriptor) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) {
        return 0;
    }
    name[length] = 0;
    const char *last = strrchr(name, '/');
    return last != NULL && strncmp(last, "/wal-", 5) == 0;
}

/* Waits while the disk stalls; whether the call is to fail. */
static int fails(int descriptor) {
    if (!is_of_the_log(descriptor)) {
        return 0;
    }
    char now = order();
    while (now == 's') {
        usleep(LOOK_US);
        now = order();
    }
    if (now == 'e') {
        errno = EIO;
        return 1;
    }
    return 0;
}

int fdatasync(int descriptor) {
    static int (*next)(int);
    if (next == NULL) {
        next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    }
    return fails(descriptor) ? -1 : next(descriptor);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off64_t offset) {
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (next == NULL) {
        next = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    }
    return fails(descriptor) ? -1 : next(descriptor, bytes, length, offset);
}
