package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// published is a directory of tasks that is published to a backend in memory.
type published struct {
	*publisher
	t       *testing.T
	backend *memory.Backend
	dir     string
}

func publishing(t *testing.T) *published {
	t.Helper()
	dir := t.TempDir()
	settings, _, err := config.Load(config.Options{Environ: []string{"CYCLO_TASK_DIRECTORY=" + dir}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	backend := memory.New(memory.Options{})
	t.Cleanup(backend.Close)
	return &published{newPublisher(backend, settings, slog.New(slog.DiscardHandler)), t, backend, dir}
}

// write changes a file; it is removed when there is no text.
func (p *published) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if text == "" {
		if err := os.Remove(path); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// expect publishes, and wants these definitions in the backend: "id command", in order.
func (p *published) expect(want ...string) {
	p.t.Helper()
	if err := p.publish(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	revision, err := p.backend.Revision(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	definitions, err := p.backend.LoadDefinitions(p.t.Context(), revision)
	if err != nil {
		p.t.Fatal(err)
	}
	var got []string
	for _, definition := range definitions {
		_, command, _ := strings.Cut(string(definition.Body), `"command":"`)
		command, _, _ = strings.Cut(command, `"`)
		if spec.IsBroken(definition.Body) {
			broken, err := spec.Decode(spec.Kind(definition.Kind), definition.Body)
			if err != nil {
				p.t.Fatal(err)
			}
			command = strings.ReplaceAll(broken.Reason, p.dir+"/", "")
		}
		got = append(got, definition.ID+" "+command)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		p.t.Errorf("published %q, wanted %q", got, want)
	}
}

func TestPublishFollowsTheFiles(t *testing.T) {
	t.Parallel()
	p := publishing(t)
	p.expect()
	p.write("a.yaml", `{id: a, command: one}`)
	p.write("b.yaml", `{id: b, command: one, dependencies: [a]}`)
	p.expect("a one", "b one")
	p.write("a.yaml", `{id: a, command: second}`)
	p.expect("a second", "b one")
	p.write("b.yaml", "")
	p.expect("a second")
}

func TestPublishKeepsTheLastGoodVersion(t *testing.T) {
	t.Parallel()
	p := publishing(t)
	p.write("a.yaml", `{id: a, command: one}`)
	p.write("b.yaml", `{id: b, command: one, dependencies: [a]}`)
	p.expect("a one", "b one")
	p.write("a.yaml", `{id: a, comand: second}`)
	p.expect("a one", "b one")
	p.write("b.yaml", `{id: b, command: second, dependencies: [nothing]}`)
	p.expect("a one", "b one")
	p.write("b.yaml", `{id: [`)
	p.expect("a one", "b one")
	p.write("a.yaml", `{id: a, command: third}`)
	p.write("b.yaml", `{id: b, command: third, dependencies: [a]}`)
	p.expect("a third", "b third")
}

// TestPublishWhatIsBroken: who wants to run what has a problem is told which.
func TestPublishWhatIsBroken(t *testing.T) {
	t.Parallel()
	p := publishing(t)
	p.write("b.yaml", `{id: b, command: one, dependencies: [a]}`)
	p.write("broken.yaml", `{id: broken, comand: one}`)
	p.write("yaml.yaml", "id: yaml\ncommand: [")
	p.expect(`b b.yaml:1:38: task "b" depends on unknown task "a"`,
		`broken broken.yaml:1:1: task "broken" has no command (and 1 more problem)`,
		`yaml yaml.yaml:2:11: broken YAML: did not find expected node content`)
	p.write("broken.yaml", `{id: broken, command: [x]}`)
	p.write("yaml.yaml", "")
	p.write("a.yaml", `{id: a, command: one}`)
	p.expect("a one", "b one", "broken broken.yaml:1:23: command must be text, not a list")
	p.write("broken.yaml", "")
	p.expect("a one", "b one")
}

func TestPublishWaitsForAQueue(t *testing.T) {
	t.Parallel()
	p := publishing(t)
	p.write("a.yaml", `{id: a, command: one, queue: gpu}`)
	p.expect(`a a.yaml:1:30: task "a" names queue "gpu", which is not declared`)
	if !p.waiting {
		t.Error("the task is not looked at again")
	}
	session, err := p.backend.OpenAgent(t.Context(), engine.AgentInfo{ID: "agent", Queues: []string{"gpu"}, Slots: 1, HeartbeatInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	p.expect("a one")
	if p.waiting {
		t.Error("the task still waits")
	}
	if err := session.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A task may name a queue that only another server declares.
func TestQueuesOfOtherServers(t *testing.T) {
	t.Parallel()
	p := publishing(t)
	p.write("task.yaml", "id: a\ncommand: one\nqueue: elsewhere\n")
	p.expect(`a task.yaml:3:8: task "a" names queue "elsewhere", which is not declared`)
	if err := p.backend.Declare(t.Context(), "another server", engine.Declared{Queues: []string{"elsewhere"}}); err != nil {
		t.Fatal(err)
	}
	p.expect("a one")
}
