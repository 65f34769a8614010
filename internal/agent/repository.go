package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/checkout"
	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
	"github.com/cyclonetix/cyclonetix/internal/keeper"
)

// Git is how tasks get files from repositories.
type Git struct {
	// Checkout is how commits are fetched. An empty Path is a folder in the user's cache directory.
	Checkout checkout.Options
	// Environments are those that tasks may name.
	Environments []GitEnvironment
	// Scan is a shell command that looks at the files before anything of them runs, with {repo_path} for their folder; empty for none.
	// It finds something when it ends with another exit code than 0. With FailOnFindings the task fails then.
	Scan           string
	FailOnFindings bool
}

// GitEnvironment prepares the files of a repository for a command.
type GitEnvironment struct {
	Name string
	// SetupCommands run before the command, each in a shell of its own; PreExecute is text before it in the same shell.
	SetupCommands []string
	PreExecute    string
}

// commitVariable is where a task sees which commit it has.
const commitVariable = reserved + "GIT_COMMIT"

// sourceForAll lets the shell know bash's word for its dot.
const sourceForAll = `command -v source >/dev/null 2>&1 || source() { . "$@"; }` + "\n"

// startInRepository runs the command of a task among the files of a repository. All that it takes to get them counts for
// the attempt: its log, its time, and who ends it.
func (r *processRunner) startInRepository(t *task, values *resolvedValues, dir *directory, results string) outcome {
	p := r.prepare(t)
	p.sensitive = values.sensitive
	command, err := p.command(values, dir.path, results)
	if err != nil {
		return p.failed(err)
	}
	p.log.forgetLastLine()
	return r.start(t, command, p.sensitive, dir, results, p)
}

// command makes all ready for a task's command, and gives it.
func (p *preparation) command(values *resolvedValues, dir, results string) (*keeper.Command, error) {
	a, wanted := p.runner.life.agent, values.git
	repository, err := gitrepo.Parse(wanted.Repository)
	if err != nil {
		return nil, fmt.Errorf("its git repository: %w", err)
	}
	p.sensitive = values.sensitive.with(values.sensitive.inURLs()).with(a.git.Secrets(repository))
	p.log.hide(p.sensitive)
	if err := gitrepo.CheckPath(wanted.Path); err != nil {
		return nil, fmt.Errorf("the path in its git repository: %w", err)
	}
	environment, err := a.options.Git.environment(wanted.Environment)
	if err != nil {
		return nil, err
	}
	p.doing = "its files were fetched from " + repository.String()
	commit, err := a.git.Checkout(p, repository, wanted.Ref, dir)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says it all
	}
	p.Say("git: " + repository.String() + " is at commit " + commit)
	work, err := folderIn(dir, wanted.Path)
	if err != nil {
		return nil, fmt.Errorf("%w %s at commit %s", err, repository, commit)
	}
	if err := p.scan(dir); err != nil {
		return nil, err
	}
	env := append(a.env.of(p.task, values, results), commitVariable+"="+commit)
	for i, script := range environment.SetupCommands {
		p.doing = fmt.Sprintf("command %d of the git environment %q ran", i+1, environment.Name)
		p.log.forgetLastLine()
		if err := p.setUp(&environment, i, keeper.Command{Script: script, Env: env, Dir: work}); err != nil {
			return nil, err
		}
	}
	script := p.task.Spec.Command
	if environment.PreExecute != "" {
		script = sourceForAll + environment.PreExecute + "\n" + script
	}
	return &keeper.Command{Script: script, Env: env, Dir: work}, nil
}

// environment finds the one of a name.
func (g *Git) environment(name string) (GitEnvironment, error) {
	if name == "" {
		return GitEnvironment{}, nil
	}
	at := slices.IndexFunc(g.Environments, func(one GitEnvironment) bool { return one.Name == name })
	if at >= 0 {
		return g.Environments[at], nil
	}
	known := make([]string, len(g.Environments))
	for i := range g.Environments {
		known[i] = g.Environments[i].Name
	}
	if len(known) == 0 {
		return GitEnvironment{}, fmt.Errorf("this agent has no git environment %q: it has none (git.environments)", name)
	}
	return GitEnvironment{}, fmt.Errorf("this agent has no git environment %q: it has %s (git.environments)", name, strings.Join(known, ", "))
}

// scan looks at the files, if that is wanted.
func (p *preparation) scan(dir string) error {
	options := &p.runner.life.agent.options.Git
	if options.Scan == "" {
		return nil
	}
	p.doing = "the files of its repository were scanned"
	script := strings.ReplaceAll(options.Scan, "{repo_path}", "'"+strings.ReplaceAll(dir, "'", `'\''`)+"'")
	ended, err := p.step(&keeper.Command{Script: script, Env: p.runner.life.agent.env.inherited, Dir: dir}, false)
	switch {
	case err != nil:
		return fmt.Errorf("scan its repository: %w", err)
	case ended.code == 0:
		return nil
	case options.FailOnFindings:
		return fmt.Errorf("the scan of its repository (git.security.scan) found something: %s; its log has more", ended.how)
	default:
		p.Say("git: the scan of the repository (git.security.scan) found something: " + ended.how)
		return nil
	}
}

// setUp runs one of the commands of an environment.
func (p *preparation) setUp(environment *GitEnvironment, number int, command keeper.Command) error {
	ended, err := p.step(&command, false)
	if err != nil || ended.code == 0 {
		return err
	}
	text := fmt.Sprintf("command %d of the git environment %q failed: %s", number+1, environment.Name, ended.how)
	if line := p.log.lastLine(); line != "" {
		text += ": " + line
	}
	return errors.New(text)
}

// folderIn gives the folder where a command starts. Links that lead out of the repository are not followed.
func folderIn(dir, path string) (string, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", errors.New("nothing is found of the repository")
	}
	work := filepath.Join(root, filepath.FromSlash(path))
	followed, err := filepath.EvalSymlinks(work)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no folder %q in the repository", path)
	case err != nil:
		return "", fmt.Errorf("the folder %q cannot be used in the repository", path)
	case followed != root && !strings.HasPrefix(followed, root+string(os.PathSeparator)):
		return "", fmt.Errorf("the folder %q is a link that leaves the repository", path)
	}
	if info, err := os.Stat(followed); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%q is no folder in the repository", path)
	}
	return followed, nil
}
