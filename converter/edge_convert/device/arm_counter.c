/* A TCG plug-in for qemu-user: how many guest instructions have been executed.
 *
 * The guest asks with getpgid(0x5A5A), a system call that does nothing else here; the answer is a line
 * "instructions N" on stderr. Count with one thread: the sum is not atomic. Debian's qemu-user brings
 * no header for plug-ins, so what is used of qemu-plugin.h (docs/devel/tcg-plugins of QEMU 7.2) is declared here.
 */
#include <stdint.h>
#include <stdio.h>

enum { GETPGID = 155, QUESTION = 0x5A5A }; /* aarch64's number of the call */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
typedef void (*translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*executed)(unsigned, void *);
typedef void (*called)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed, int flags, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, called);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

int qemu_plugin_version = PLUGIN_VERSION;
static uint64_t count;

static void on_executed(unsigned cpu, void *length) { count += (uint64_t)(uintptr_t)length; }

static void on_translated(plugin_id id, struct qemu_plugin_tb *block)
{
    void *length = (void *)(uintptr_t)qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_executed, 0 /* reads no registers */, length);
}

static void on_called(plugin_id id, unsigned cpu, int64_t number, uint64_t first, uint64_t b, uint64_t c,
                      uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    if (number == GETPGID && first == QUESTION)
        fprintf(stderr, "instructions %llu\n", (unsigned long long)count);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, on_called);
    return 0;
}
