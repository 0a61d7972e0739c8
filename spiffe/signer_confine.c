/*
 * What the signer, and the token's process, may never do again. A list of what is forbidden rather
 * than of what is allowed: C library and OpenSSL change the harmless calls they make (memory, time,
 * randomness) from version to version, while the ways out of a process are few and known. Forbidden
 * calls fail with EPERM.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "spiffe/signer_child.h"

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

#define X32_BIT 0x40000000u

/* Who needs it after all: a PKCS#11 module reads and writes its token's files, and talks to a
 * daemon or, only if the configuration says so, to a machine. */
enum need { NOBODY, TOKEN };

static const struct {
	int call;
	enum need need;
} forbidden[] = {
	/* files */
	{ SYS_openat, TOKEN },
	{ SYS_unlinkat, TOKEN },
	{ SYS_renameat2, TOKEN },
	{ SYS_mkdirat, TOKEN },
	{ SYS_openat2, NOBODY },
	{ SYS_linkat, NOBODY },
	{ SYS_symlinkat, NOBODY },
	{ SYS_mknodat, NOBODY },
	{ SYS_fchmodat, NOBODY },
	{ SYS_fchownat, NOBODY },
	{ SYS_truncate, NOBODY },
	{ SYS_mount, NOBODY },
	{ SYS_chroot, NOBODY },
	{ SYS_open_by_handle_at, NOBODY },
	{ SYS_memfd_create, NOBODY },
	/* network; of the sockets a module may have, socket_families below says which */
	{ SYS_socket, TOKEN },
	{ SYS_connect, TOKEN },
	{ SYS_socketpair, NOBODY },
	{ SYS_bind, NOBODY },
	{ SYS_listen, NOBODY },
	{ SYS_accept, NOBODY },
	{ SYS_accept4, NOBODY },
	/* programs and other processes */
	{ SYS_execve, NOBODY },
	{ SYS_execveat, NOBODY },
	{ SYS_clone, NOBODY },
	{ SYS_clone3, NOBODY },
	{ SYS_ptrace, NOBODY },
	{ SYS_process_vm_readv, NOBODY },
	{ SYS_process_vm_writev, NOBODY },
	{ SYS_pidfd_open, NOBODY },
	{ SYS_pidfd_getfd, NOBODY },
	{ SYS_unshare, NOBODY },
	{ SYS_setns, NOBODY },
	/* ways around a filter, and doors of the kernel */
	{ SYS_io_uring_setup, NOBODY },
	{ SYS_bpf, NOBODY },
	{ SYS_perf_event_open, NOBODY },
	{ SYS_userfaultfd, NOBODY },
	{ SYS_keyctl, NOBODY },
	{ SYS_add_key, NOBODY },
	{ SYS_request_key, NOBODY },
#ifdef SYS_open
	{ SYS_open, TOKEN },
	{ SYS_creat, TOKEN },
	{ SYS_unlink, TOKEN },
	{ SYS_rename, TOKEN },
	{ SYS_renameat, TOKEN },
	{ SYS_mkdir, TOKEN },
	{ SYS_rmdir, TOKEN },
	{ SYS_link, NOBODY },
	{ SYS_symlink, NOBODY },
	{ SYS_mknod, NOBODY },
	{ SYS_chmod, NOBODY },
	{ SYS_chown, NOBODY },
	{ SYS_fork, NOBODY },
	{ SYS_vfork, NOBODY },
#endif
};

#ifdef OUR_ARCH
#define STMT(code, k) ((struct sock_filter)BPF_STMT(code, k))
#define JUMP(code, k, yes, no) ((struct sock_filter)BPF_JUMP(code, k, yes, no))
#define LOAD(member) STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define REFUSE STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define ALLOW STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* socket() of other families than these is refused; what is left leads to the instruction behind.
 * The low half of an argument is what the kernel looks at: the family is an int. */
static unsigned socket_families(struct sock_filter *code, bool network)
{
	const uint32_t families[] = { AF_UNIX, AF_INET, AF_INET6 };
	unsigned n = network ? ARRAY_LEN(families) : 1, at = 0;

	code[at++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, (uint8_t)(n + 2));
	code[at++] = LOAD(args[0]);
	for (unsigned i = 0; i < n; i++)
		code[at++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, families[i], (uint8_t)(n - i), 0);
	code[at++] = REFUSE;
	return at;
}

bool signer_confine(enum confine how)
{
	/* seven instructions in front, one or two for each call, two behind */
	struct sock_filter code[2 * ARRAY_LEN(forbidden) + 24];
	struct sock_fprog program = { .filter = code };
	unsigned at = 0;

	code[at++] = LOAD(arch);
	code[at++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
	code[at++] = STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[at++] = LOAD(nr);
	/* numbers of the x32 interface would pass the comparisons below */
	code[at++] = JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	code[at++] = REFUSE;
	for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
		if (how != CONFINE_ALL && forbidden[i].need == TOKEN)
			continue;
		code[at++] = JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)forbidden[i].call, 0, 1);
		code[at++] = REFUSE;
	}
	if (how != CONFINE_ALL)
		at += socket_families(code + at, how == CONFINE_NETWORK);
	code[at++] = ALLOW;
	program.len = (unsigned short)at;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}
#else
bool signer_confine(enum confine how)
{
	(void)how;
	return false;
}
#endif
