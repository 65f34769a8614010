package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// serving is what `serve` is told by flags of its own.
type serving struct {
	roles       roles
	insecure    bool
	debugListen string
}

// roles are the parts that a process runs.
type roles struct{ orchestrator, agent, ui bool }

// orAll is all parts where none was asked for.
func (r roles) orAll() roles {
	if r == (roles{}) {
		return roles{orchestrator: true, agent: true, ui: true}
	}
	return r
}

func (s *serving) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&s.roles.orchestrator, "orchestrator", false, "run the orchestrator; with other roles: only these")
	flags.BoolVar(&s.roles.agent, "agent", false, "run an agent; with other roles: only these")
	flags.BoolVar(&s.roles.ui, "ui", false, "serve pages and API; with other roles: only these")
	flags.BoolVar(&s.insecure, "insecure", false, "listen on an address that others can reach, without a login")
	flags.StringVar(&s.debugListen, "debug-listen", "", "serve profiles for go tool pprof at a loopback `address`")
}

func (p *program) serve() *cobra.Command {
	command := &cobra.Command{
		Use: "serve", Short: "Start the server: orchestrator, agent and pages in one process, or some of them",
		Long: "Start the server. Without --orchestrator, --agent or --ui it is all three in one process. With an empty backend_url\n" +
			"it runs a PostgreSQL server of its own, whose data are kept.",
	}
	p.serveHere(command)
	help := command.HelpFunc()
	command.SetHelpFunc(func(command *cobra.Command, args []string) {
		p.showKeys()
		help(command, args)
	})
	return command
}

// serveHere makes a command start the server.
func (p *program) serveHere(command *cobra.Command) {
	s := &serving{}
	s.addFlags(command.Flags())
	if command.Args == nil {
		command.Args = p.takes()
	}
	command.RunE = func(command *cobra.Command, _ []string) error {
		if p.server != "" {
			return p.usage(command, fmt.Errorf("--server is for commands that work with a running server"))
		}
		if s.debugListen != "" {
			if err := checkLoopback(s.debugListen); err != nil {
				return p.usage(command, fmt.Errorf("--debug-listen: %w", err))
			}
		}
		return p.runServer(command.Context(), s)
	}
}

// showKeys lets the flags of the configuration's keys be seen in the help.
func (p *program) showKeys() {
	p.keys.VisitAll(func(flag *pflag.Flag) { flag.Hidden = p.hidden[flag.Name] })
}
