/* Logs every operation that changes the disk below a folder, and can end the process at one of them.
 *
 * Preloaded (LD_PRELOAD), so that it sees what Python does and what SQLite does alike. Environment:
 *   FAULT_ROOT  absolute path of the folder that counts
 *   FAULT_LOG   file to append to: one line "kind TAB path TAB other TAB offset TAB length", then the bytes
 *   FAULT_MARK  file whose writes are remarks of the program ("mark"), not operations
 *   FAULT_AT    the process is killed right after operation number so much (the first is 1)
 *   FAULT_FAIL  file that holds an errno in decimal while it is there: operations fail with it. ENOSPC fails those
 *               that need room, EACCES those that open or name something, any other all of them
 *   FAULT_SYNC  file that is there while every sync fails with EIO: what was written is read, and is not on the disk.
 *               Such a sync is logged ("unsynced")
 *   FAULT_TORN  "1": operation FAULT_AT is done by half, when it is a write
 *   FAULT_STOP  file that holds "kind TAB part of a path TAB part of the bytes" while it is there: the process is
 *               stopped (SIGSTOP) right before the first operation of that kind that has both, and the file removed
 * One lock is held over an operation and its line, so the log's order is the disk's. Operations that
 * fail change nothing and are not logged. Child processes are not followed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX], mark[PATH_MAX], fail[PATH_MAX], sync_fails[PATH_MAX], stop[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static long at, done;
static int torn;
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;


__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("FAULT_ROOT"), *log = getenv("FAULT_LOG"), *remarks = getenv("FAULT_MARK");
    unsetenv("LD_PRELOAD");
    if (!folder || !log) return;
    snprintf(root, sizeof root, "%s/", folder);
    root_length = strlen(root);
    if (getenv("FAULT_FAIL")) snprintf(fail, sizeof fail, "%s", getenv("FAULT_FAIL"));
    if (getenv("FAULT_SYNC")) snprintf(sync_fails, sizeof sync_fails, "%s", getenv("FAULT_SYNC"));
    if (getenv("FAULT_STOP")) snprintf(stop, sizeof stop, "%s", getenv("FAULT_STOP"));
    if (remarks) snprintf(mark, sizeof mark, "%s", remarks);
    at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
    torn = getenv("FAULT_TORN") && !strcmp(getenv("FAULT_TORN"), "1");
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Whether an operation is to fail now; needs: 'r' room and a name, 'w' room, 'n' a name, 'h' a handle. Sets errno. */
static int refused(char needs) {
    char text[16] = "";
    if (!fail[0]) return 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, fail, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    ssize_t got = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    int error = got > 0 ? atoi(text) : 0;
    if (!error || (error == ENOSPC && needs == 'n') || (error == ENOSPC && needs == 'h')) return 0;
    if (error == EACCES && (needs == 'h' || needs == 'w')) return 0;
    errno = error;
    return 1;
}

/* Whether an operation is the one to be stopped before; then this returns when the process goes on. */
static void stop_before(const char *kind, const char *path, const void *bytes, size_t length) {
    char text[512] = "";
    if (!stop[0]) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, stop, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    ssize_t got = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    char *part = got > 0 ? strchr(text, '\t') : 0, *content = part ? strchr(part + 1, '\t') : 0;
    if (!content) return;
    *part++ = *content++ = 0;
    if (strcmp(kind, text) || !strstr(path, part)) return;
    if (*content && !memmem(bytes, length, content, strlen(content))) return;
    syscall(SYS_unlinkat, AT_FDCWD, stop, 0);
    syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGSTOP);
}

static void put(const void *bytes, size_t count) {
    const char *next = bytes;
    while (count) {
        ssize_t some = syscall(SYS_write, log_fd, next, count);
        if (some <= 0) abort();
        next += some;
        count -= (size_t)some;
    }
}

static void end(void) { syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL); for (;;) pause(); }

static void line(const char *kind, const char *path, const char *other, long long offset, size_t length) {
    char text[3 * PATH_MAX];
    int count = snprintf(text, sizeof text, "%s\t%s\t%s\t%lld\t%zu\n", kind, path, other, offset, length);
    put(text, (size_t)count);
}

/* An operation has happened. */
static void happened(const char *kind, const char *path, const char *other, long long offset,
                     const void *bytes, size_t length) {
    line(kind, path, other, offset, length);
    if (length) put(bytes, length);
    if (++done == at) end();
}

/* SQLite's shared memory (-shm) is made anew after every power cut. */
static int inside(const char *path) {
    size_t length = strlen(path);
    if (log_fd < 0 || strncmp(path, root, root_length - 1)) return 0;
    if (length >= root_length && path[root_length - 1] != '/') return 0;
    return length < 4 || strcmp(path + length - 4, "-shm");
}

static int of_handle(int fd, char *path) {
    char link[64];
    if (log_fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return 1;
}

/* Absolute path; says whether it counts. */
static int of_name(int folder, const char *name, char *path) {
    if (log_fd < 0 || !name) return 0;
    if (name[0] == '/') snprintf(path, PATH_MAX, "%s", name);
    else {
        char before[PATH_MAX];
        if (folder == AT_FDCWD) { if (!getcwd(before, sizeof before)) return 0; }
        else if (!of_handle(folder, before)) return 0;
        if (snprintf(path, PATH_MAX, "%s/%s", before, name) >= PATH_MAX) return 0;
    }
    return inside(path);
}

static int opening(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (fail[0] && (flags & (O_CREAT | O_ACCMODE)) && of_name(folder, name, path)) {
        struct stat there;
        char needs = (flags & O_CREAT) && fstatat(folder, name, &there, 0) ? 'r' : 'n';
        if (refused(needs)) return -1;
    }
    int counts = (flags & (O_CREAT | O_TRUNC)) && of_name(folder, name, path);
    if (!counts) return (int)syscall(SYS_openat, folder, name, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int existed = !fstatat(folder, name, &before, 0);
    int fd = (int)syscall(SYS_openat, folder, name, flags, mode);
    int error = errno;
    if (fd >= 0 && !existed) happened("create", path, "", 0, 0, 0);
    else if (fd >= 0 && (flags & O_TRUNC) && before.st_size) happened("truncate", path, "", 0, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list rest) { return flags & O_CREAT ? va_arg(rest, mode_t) : 0; }

#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); mode_t mode = mode_of(flags, rest); va_end(rest); \
    return opening(AT_FDCWD, path, flags, mode); }
#define OPENAT(name) int name(int folder, const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); mode_t mode = mode_of(flags, rest); va_end(rest); \
    return opening(folder, path, flags, mode); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

static ssize_t writing(int fd, const void *bytes, size_t count, off64_t offset, int positioned) {
    char path[PATH_MAX];
    long call = positioned ? SYS_pwrite64 : SYS_write;
    int known = log_fd >= 0 && of_handle(fd, path);
    if (known && mark[0] && !strcmp(path, mark)) {
        pthread_mutex_lock(&lock);
        line("mark", path, "", 0, count);
        put(bytes, count);
        pthread_mutex_unlock(&lock);
        return (ssize_t)count;
    }
    if (!known || !inside(path)) return syscall(call, fd, bytes, count, offset);
    stop_before("write", path, bytes, count);
    if (refused('w')) return -1;
    pthread_mutex_lock(&lock);
    if (!positioned) {
        struct stat now;
        int flags = fcntl(fd, F_GETFL);
        offset = flags & O_APPEND && !fstat(fd, &now) ? now.st_size : lseek64(fd, 0, SEEK_CUR);
    }
    int half = torn && done + 1 == at && count > 1;
    ssize_t wrote = syscall(call, fd, bytes, half ? count / 2 : count, offset);
    int error = errno;
    if (wrote > 0) happened("write", path, "", offset, bytes, (size_t)wrote);
    pthread_mutex_unlock(&lock);
    errno = error;
    return wrote;
}

ssize_t write(int fd, const void *bytes, size_t count) { return writing(fd, bytes, count, 0, 0); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { return writing(fd, b, n, at, 1); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { return writing(fd, b, n, at, 1); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t wrote = writing(fd, parts[i].iov_base, parts[i].iov_len, 0, 0);
        if (wrote < 0) return total ? total : wrote;
        total += wrote;
        if ((size_t)wrote < parts[i].iov_len) break;
    }
    return total;
}

/* Python falls back to reading and writing. */
ssize_t sendfile(int out, int in, off_t *offset, size_t count) { errno = ENOTSOCK; return -1; }
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) { errno = ENOTSOCK; return -1; }

/* A sync that fails; the kernel takes what it could not write for written from now on. */
static int cannot_sync(const char *path) {
    if (!sync_fails[0] || syscall(SYS_faccessat, AT_FDCWD, sync_fails, F_OK)) return 0;
    pthread_mutex_lock(&lock);
    happened("unsynced", path, "", 0, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = EIO;
    return 1;
}

#define ON_HANDLE(name, arguments, call, kind, offset) int name arguments { \
    char path[PATH_MAX]; \
    if (!of_handle(fd, path) || !inside(path)) return (int)call; \
    stop_before(kind, path, "", 0); \
    if (refused('h')) return -1; \
    if (*kind == 's' && cannot_sync(path)) return -1; \
    pthread_mutex_lock(&lock); \
    int result = (int)call, error = errno; \
    if (!result) happened(kind, path, "", offset, 0, 0); \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return result; }
ON_HANDLE(fsync, (int fd), syscall(SYS_fsync, fd), "sync", 0)
ON_HANDLE(fdatasync, (int fd), syscall(SYS_fdatasync, fd), "sync", 0)
ON_HANDLE(ftruncate, (int fd, off_t size), syscall(SYS_ftruncate, fd, size), "truncate", (long long)size)
ON_HANDLE(ftruncate64, (int fd, off64_t size), syscall(SYS_ftruncate, fd, size), "truncate", (long long)size)

/* What changes no content is not logged, but fails with the rest. */
int fchmod(int fd, mode_t mode) {
    char path[PATH_MAX];
    if (of_handle(fd, path) && inside(path) && refused('h')) return -1;
    return (int)syscall(SYS_fchmod, fd, mode);
}
int chmod(const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (of_name(AT_FDCWD, name, path) && refused('h')) return -1;
    return (int)syscall(SYS_fchmodat, AT_FDCWD, name, mode);
}
int fchmodat(int folder, const char *name, mode_t mode, int flags) {
    char path[PATH_MAX];
    if (of_name(folder, name, path) && refused('h')) return -1;
    return (int)syscall(SYS_fchmodat, folder, name, mode);
}

static int on_name(const char *kind, int folder, const char *name, long result_of(int, const char *, long), long more) {
    char path[PATH_MAX];
    if (!of_name(folder, name, path)) return (int)result_of(folder, name, more);
    stop_before(kind, path, "", 0);
    if (refused(*kind == 'm' ? 'r' : 'n')) return -1;
    pthread_mutex_lock(&lock);
    int result = (int)result_of(folder, name, more), error = errno;
    if (!result) happened(kind, path, "", 0, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
static long do_unlink(int folder, const char *name, long flags) { return syscall(SYS_unlinkat, folder, name, flags); }
static long do_mkdir(int folder, const char *name, long mode) { return syscall(SYS_mkdirat, folder, name, mode); }
int unlink(const char *name) { return on_name("unlink", AT_FDCWD, name, do_unlink, 0); }
int rmdir(const char *name) { return on_name("unlink", AT_FDCWD, name, do_unlink, AT_REMOVEDIR); }
int remove(const char *name) {
    struct stat found;
    return !lstat(name, &found) && S_ISDIR(found.st_mode) ? rmdir(name) : unlink(name);
}
int unlinkat(int folder, const char *name, int flags) { return on_name("unlink", folder, name, do_unlink, flags); }
int mkdir(const char *name, mode_t mode) { return on_name("mkdir", AT_FDCWD, name, do_mkdir, mode); }
int mkdirat(int folder, const char *name, mode_t mode) { return on_name("mkdir", folder, name, do_mkdir, mode); }

static int two_names(const char *kind, int f, const char *from, int t, const char *to, unsigned flags) {
    char path[PATH_MAX], other[PATH_MAX];
    int counts = of_name(t, to, other);
    of_name(f, from, path);
    if (counts) stop_before(kind, other, "", 0);
    if (counts && refused(*kind == 'l' ? 'r' : 'n')) return -1;
    if (counts) pthread_mutex_lock(&lock);
    int result = (int)(*kind == 'r' ? syscall(SYS_renameat2, f, from, t, to, flags)
                                    : syscall(SYS_linkat, f, from, t, to, flags));
    int error = errno;
    if (counts && !result) happened(kind, path, other, 0, 0, 0);
    if (counts) pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int rename(const char *from, const char *to) { return two_names("rename", AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int f, const char *from, int t, const char *to) { return two_names("rename", f, from, t, to, 0); }
int renameat2(int f, const char *from, int t, const char *to, unsigned flags) {
    return two_names("rename", f, from, t, to, flags);
}
int link(const char *from, const char *to) { return two_names("link", AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int f, const char *from, int t, const char *to, int flags) {
    return two_names("link", f, from, t, to, (unsigned)flags);
}
