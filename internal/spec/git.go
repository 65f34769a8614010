package spec

import (
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var gitFields = []field[workflow.Git]{
	{
		name: "repository", required: true, form: labelForm().with(Form{"minLength": 1}),
		about: "A URL (https, http, ssh, git or file), git@HOST:PATH, or an absolute path of the agent. May hold ${references}.",
		read: func(v value, g *workflow.Git) {
			v.secret = true // it may hold credentials
			g.Repository = v.gitText(func(text string) error {
				_, err := gitrepo.Parse(text)
				return err //nolint:wrapcheck // it is part of a sentence
			})
		},
	},
	{
		name: "ref", form: labelForm(),
		about: "A branch, a tag or a commit; the HEAD of the remote where it is not given. May hold ${references}.",
		read:  func(v value, g *workflow.Git) { g.Ref = v.gitText(gitrepo.CheckRef) },
	},
	{
		name: "path", form: labelForm(),
		about: "The folder in the repository where the command starts; its root where it is not given. May hold ${references}.",
		read:  func(v value, g *workflow.Git) { g.Path = v.gitText(gitrepo.CheckPath) },
	},
	{
		name: "environment", form: idForm(),
		about: "The name of one of git.environments in the configuration of the agent, which prepares the files for the command.",
		read:  func(v value, g *workflow.Git) { g.Environment = v.id() },
	},
}

func readGit(v value, t *taskDraft) {
	t.at.git = v.place()
	t.Git = new(workflow.Git)
	given, ok := readFields(v, "git repository", gitFields, t.Git)
	if ok && !slices.Contains(given, "repository") {
		v.problem("git has no repository")
		v.reader.hint("give it the URL of one")
	}
}

// gitText is a text that obeys a rule. One with references is held to it by the agent.
func (v value) gitText(check func(string) error) string {
	text, ok := v.label()
	if !ok {
		return ""
	}
	if hasReference(text) {
		if _, err := references(text); err != nil {
			v.problem("%s: %s", v.what, err)
			return ""
		}
		return text
	}
	if err := check(text); err != nil {
		v.problem("%s: %s", v.what, err)
		return ""
	}
	return text
}

// gitNames are the names of the fields that may hold references, and gitKeys those that they have among the bindings:
// no reference can name them.
var (
	gitNames = [3]string{"git.repository", "git.ref", "git.path"}
	gitKeys  = [3]string{"git}repository", "git}ref", "git}path"}
)

// bindGit lays the texts of git beside the values of the task.
func (s *scope) bindGit() {
	for i, text := range []string{s.spec.Git.Repository, s.spec.Git.Ref, s.spec.Git.Path} {
		s.bindings[gitKeys[i]] = &binding{name: gitNames[i], layer: gitTexts, value: workflow.StringValue(text)}
	}
}

// git is the specification's with its references resolved.
func (s *scope) git() *workflow.Git {
	if s.spec.Git == nil {
		return nil
	}
	text := func(i int) string { return s.bindings[gitKeys[i]].value.Env() }
	return &workflow.Git{Repository: text(0), Ref: text(1), Path: text(2), Environment: s.spec.Git.Environment}
}
