/*
 * sandbox.c: runs a program with less to ask the kernel by. Usage:
 * sandbox how program [argument ...]
 *   netlink  it may not use netlink, as some sandboxes have it
 *   proc     it sees an empty /proc (as root)
 *   blind    both
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
				 offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof rules / sizeof rules[0], rules};

	if (argc < 3)
		return 2;
	if (strcmp(argv[1], "netlink") != 0 &&
		(unshare(CLONE_NEWNS) < 0 ||
		 mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		 mount("none", "/proc", "tmpfs", 0, NULL) < 0))
	{
		perror("mount");
		return 2;
	}
	if (strcmp(argv[1], "proc") != 0 &&
		(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		 prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0))
	{
		perror("prctl");
		return 2;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 2;
}
