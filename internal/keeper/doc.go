// Package keeper starts the shell processes of an agent and never leaves one
// behind.
//
// An agent that forked its tasks itself would orphan them when it is killed
// with SIGKILL. So the agent starts one small process, the keeper (the same
// executable under another argv[0]), and that one forks:
//
//	agent ──requests (command, write ends of the output pipes)──► keeper ──fork──► sh -c …
//	      ◄─reports (started, failed, exited)────────────────────        └──fork──► sh -c …
//	      ──control (signals; its end means the agent's death)───►
//
// Every command leads a process group of its own. What holds:
//
//   - The agent dies, in whatever way: the kernel closes its sockets, the keeper
//     sends SIGKILL to every group and exits.
//   - The keeper dies: on Linux the kernel kills the leaders (PDEATHSIG), the
//     agent kills the groups and whatever else is in the keeper's session, each
//     running process reports Exit.Lost, and the next Run starts a new keeper.
//   - A leader exits: what is left of its group gets SIGKILL before the exit is
//     reported. The kill comes while the leader is still a zombie, which keeps
//     its number from being given to somebody else. For the same reason signals
//     are sent by the keeper, under the lock that also guards reaping.
//
// What does not: a process that leaves its group (setpgid) outlives its leader,
// though not, on Linux, the keeper or the agent; one that leaves the session
// (setsid) is not followed at all. But their hold on the pipes delays no reader;
// see Output. And if agent and keeper are killed at the same instant, only the
// leaders die (on Linux), not their children.
//
// The keeper leads a session, which its commands share, so a Ctrl-C at the terminal reaches
// neither it nor the commands, and none of them can stop to read from the
// terminal: only the agent decides. Signals sent to the keeper itself, as by a
// service manager, do nothing but for SIGKILL.
//
// Starting must be cheaper than with os/exec, or the keeper would cost
// throughput. On Linux some threads, each locked for life (PDEATHSIG belongs to
// the thread), block in recvmsg on one seqpacket socket, which makes the kernel
// their queue, and fork by clone3 with CLONE_VM and CLONE_VFORK; one more
// thread reaps; see fast. Elsewhere syscall.ForkExec and a goroutine for each
// child do the same work; see portable. BenchmarkStart compares with os/exec.
package keeper
