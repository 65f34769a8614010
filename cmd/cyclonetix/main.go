// Command cyclonetix runs workflows: the server, its agents, and the commands to start runs and look
// at them.
//
// What a command finds out goes to standard output, all talk to standard error. It exits with 0 when
// it is done, 1 when it failed (a run that it waited for failed, too), and 2 when the command line
// is malformed.
package main

import (
	"os"
	"runtime/debug"

	"github.com/cyclonetix/cyclonetix/internal/bench"
	"github.com/cyclonetix/cyclonetix/internal/keeper"
)

func main() {
	keeper.MaybeMain()
	// The live heap is small (tens of MB), so collecting half as often costs little memory and
	// saves a tenth of the processor time under load.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	bench.MaybeChild()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
