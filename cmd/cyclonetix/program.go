package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/nearest"
)

// program is one call of cyclonetix: where it reads and writes, and its global flags.
type program struct {
	in       io.Reader
	out, err io.Writer

	configFile string
	format     string
	server     string
	keys       *pflag.FlagSet  // a flag for each key of the configuration
	hidden     map[string]bool // those of them that no help shows
	given      *pflag.FlagSet  // the flags of the command that runs
}

// run does what the arguments ask for, and gives the exit status.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	p := &program{in: in, out: out, err: errs}
	root := p.root()
	root.SetArgs(args)
	return p.report(root.Execute())
}

// talk writes a line for people, who may be watching while the output goes elsewhere.
func (p *program) talk(format string, arguments ...any) {
	fmt.Fprintf(p.err, format+"\n", arguments...)
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cyclonetix",
		Short: "Run workflows, from one command to a cluster",
		Long: "Cyclonetix runs workflows: tasks that depend on each other, on one machine or many.\n\n" +
			"`cyclonetix serve`, or no command at all, starts the server; `cyclonetix schedule-task TASK --wait` runs a\n" +
			"task with all that it depends on. Each key of the configuration is a flag too, with - for . and _:\n" +
			"agent.concurrency is --agent-concurrency. See them with `cyclonetix serve --help`.",
		SilenceErrors: true, SilenceUsage: true,
		Args: p.noCommand,
		PersistentPreRunE: func(command *cobra.Command, _ []string) error {
			p.given = command.Flags()
			if p.format != formatTable && p.format != formatJSON {
				return p.usage(command, fmt.Errorf("--format: %q is not table or json", p.format))
			}
			return nil
		},
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.SetFlagErrorFunc(p.flagError)
	flags := root.PersistentFlags()
	flags.StringVar(&p.configFile, "config", "", "configuration `file` (default: config.yaml in the working directory, if it is there)")
	flags.StringVar(&p.format, "format", formatTable, "`form` of what is listed: table or json")
	flags.StringVar(&p.server, "server", "", "`URL` of a running server to work with, instead of the one that is found")
	p.keys = pflag.NewFlagSet("configuration", pflag.ContinueOnError)
	config.RegisterFlags(p.keys)
	p.hidden = map[string]bool{}
	p.keys.VisitAll(func(flag *pflag.Flag) { p.hidden[flag.Name], flag.Hidden = flag.Hidden, true })
	flags.AddFlagSet(p.keys)

	p.serveHere(root)
	root.AddCommand(
		p.serve(), p.scheduleTask(), p.scheduleDAG(), p.backfill(), p.listTasks(), p.listDAGs(), p.listContexts(), p.listParameterSets(),
		p.listRuns(), p.showRun(), p.logs(), p.cancelRun(), p.pauseRun(), p.resumeRun(), p.rerun(),
		p.controlTask(api.ActionApprove, "Let a task start that waits for an approval"),
		p.controlTask(api.ActionReject, "Fail a task that waits for an approval"),
		p.controlTask(api.ActionRetry, "Run a task again that has ended, and what ended only because of it"),
		p.controlTask(api.ActionSkip, "Let a task count as absent that failed, or has not started"),
		p.validateYAML(), p.verifyConfig(), p.migrate(), p.sql(), p.bench(), p.version(),
	)
	return root
}

// usage makes an error one of the command line.
func (p *program) usage(command *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err.Error(), command.CommandPath()}
}

func (p *program) flagError(command *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return p.usage(command, err)
	}
	message := fmt.Sprintf("unknown flag --%s", unknown.GetSpecifiedName())
	var names []string
	serves := command.Name() == "serve" || command.Name() == "verify-config" || !command.HasParent()
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		if _, key := p.hidden[flag.Name]; !key || serves || forCommands(flag.Name) {
			names = append(names, flag.Name)
		}
	})
	if near := nearest.Name(unknown.GetSpecifiedName(), slices.Values(names)); near != "" {
		message += fmt.Sprintf(": did you mean --%s?", near)
	}
	return &usageError{message, command.CommandPath()}
}

// forCommands tells whether a key of the configuration means something to a command that is no server: where the backend
// is, and the definitions.
func forCommands(key string) bool {
	return strings.HasPrefix(key, "backend") || strings.HasPrefix(key, "postgresql-") || strings.HasSuffix(key, "-directory") || key == "cluster-id"
}

// noCommand is for the program without a command: what stands there would be an unknown one.
func (p *program) noCommand(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command %q", args[0])
	var names []string
	for _, known := range command.Commands() {
		names = append(names, known.Name())
	}
	if near := nearest.Name(args[0], slices.Values(names)); near != "" {
		message += fmt.Sprintf(": did you mean %q?", near)
	}
	return &usageError{message, command.CommandPath()}
}

// takes checks the number of arguments by their names; one in brackets may be left out, and one with
// an ellipsis be given more than once.
func (p *program) takes(names ...string) cobra.PositionalArgs {
	needed := len(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.HasPrefix(name, "[") }))
	most := len(names)
	if most > 0 && strings.HasSuffix(names[most-1], "…") {
		most = 1 << 30
	}
	return func(command *cobra.Command, args []string) error {
		switch {
		case len(args) < needed:
			return &usageError{fmt.Sprintf("%s needs %s", command.Name(), strings.Join(names, " ")), command.CommandPath()}
		case most == 0 && len(args) > 0:
			return &usageError{fmt.Sprintf("%s takes no argument, and %q was given", command.Name(), args[0]), command.CommandPath()}
		case len(args) > most:
			return &usageError{fmt.Sprintf("%s takes %s, and not %q", command.Name(), strings.Join(names, " "), args[most]), command.CommandPath()}
		}
		return nil
	}
}

// configuration reads the configuration, and tells what of it does nothing when told to.
func (p *program) configuration() (*config.Config, []config.Warning, error) {
	settings, warnings, err := config.Load(config.Options{File: p.configFile, Flags: p.given})
	if err != nil {
		return nil, nil, withHint(err, "`cyclonetix verify-config` checks the configuration")
	}
	return settings, warnings, nil
}

// withService gives a command the service to work with. Its context ends when the user interrupts.
func (p *program) withService(work func(ctx context.Context, service api.Service, args []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		service, done, err := p.service(ctx)
		if err != nil {
			return err
		}
		defer done()
		return work(ctx, service, args)
	}
}
