package agent

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var someHost = Host{CPU: 4 * workflow.Core, MemoryMB: 100, DiskMB: 50, GPUs: []string{"3", "GPU-7f", "0"}}

// anyResources are some that a host like someHost may have, or a little more than that.
func anyResources(t *rapid.T, over int) workflow.Resources {
	return workflow.Resources{
		CPU:      workflow.Cores(rapid.SampledFrom([]int{0, 1, 500, 2000, 4000, 4000 + over}).Draw(t, "cpu")),
		MemoryMB: rapid.SampledFrom([]int{0, 1, 40, 100, 100 + over}).Draw(t, "memory"),
		GPU:      rapid.SampledFrom([]int{0, 0, 1, 2, 3, 3 + over}).Draw(t, "gpu"),
		DiskMB:   rapid.SampledFrom([]int{0, 0, 50, 50 + over}).Draw(t, "disk"),
	}
}

// usage checks that what tasks hold together is never more than there is.
type usage struct {
	mu     sync.Mutex
	used   workflow.Resources
	gpus   map[string]bool
	faults []string
}

func (u *usage) take(t *task, total workflow.Resources) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used = u.used.Plus(t.Spec.Resources)
	if !u.used.Fit(total) {
		u.faults = append(u.faults, "more is in use than there is")
	}
	if len(t.gpus) != t.Spec.Resources.GPU {
		u.faults = append(u.faults, "a task has not the number of graphics processors that it needs")
	}
	for _, name := range t.gpus {
		if u.gpus[name] || !slices.Contains(someHost.GPUs, name) {
			u.faults = append(u.faults, "graphics processor "+name+" is given twice, or is none")
		}
		u.gpus[name] = true
	}
}

func (u *usage) put(t *task) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used = u.used.Minus(t.Spec.Resources)
	for _, name := range t.gpus {
		delete(u.gpus, name)
	}
}

// Whatever becomes of tasks, in whatever order: what they set aside is never more than there is, no two have the same
// graphics processor, and nothing stays set aside for a task that is gone.
func TestBookings(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := slots{size: 3, booked: newBookings(someHost)}
		known, held, running := usage{gpus: map[string]bool{}}, map[*task]bool{}, []*task{}
		gone := func(tasks ...*task) {
			for _, t := range tasks {
				known.put(t)
				delete(held, t)
			}
		}
		node := int32(0)
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				needs := anyResources(rt, 1)
				node++
				added := []task{{held: &held0, ClaimedTask: engine.ClaimedTask{Member: workflow.Member{Node: node}, Spec: &workflow.TaskSpec{Resources: needs}}}}
				room := known.used.Plus(needs).Fit(someHost.Total())
				if homeless := s.add(added); (len(homeless) == 0) != room {
					rt.Fatalf("%+v with %+v in use: homeless %v", needs, known.used, homeless)
				}
				if room {
					held[&added[0]] = true
					known.take(&added[0], someHost.Total())
				}
			},
			"start": func(*rapid.T) {
				if started := s.take(); started != nil {
					running = append(running, started)
				}
			},
			"finish": func(rt *rapid.T) {
				if len(running) == 0 {
					return
				}
				at := rapid.IntRange(0, len(running)-1).Draw(rt, "at")
				ended := running[at]
				running = slices.Delete(running, at, at+1)
				gone(ended)
				if next, _ := s.finish(ended, time.Hour); next != nil {
					running = append(running, next)
				}
			},
			"kill": func(rt *rapid.T) {
				order := engine.Order{ID: 1, Member: workflow.Member{Node: rapid.Int32Range(0, node).Draw(rt, "node")}}
				if _, waited := s.kill(&order); waited != nil {
					gone(waited)
				}
			},
			"stale":  func(*rapid.T) { gone(s.stale(time.Now())...) },
			"inline": func(*rapid.T) { gone(s.takeInline(nil, 2)...) },
			"": func(rt *rapid.T) {
				if used, free, _ := s.resources(); used != known.used || used.Plus(free) != someHost.Total() || len(known.faults) > 0 {
					rt.Fatalf("in use is %+v, free %+v; should be in use %+v; %v", used, free, known.used, known.faults)
				}
			},
		})
		gone(s.close()...)
		for _, t := range running {
			gone(t)
			s.finish(t, 0)
		}
		if used, _, _ := s.resources(); !used.IsZero() || len(held) > 0 || slices.Contains(s.booked.taken, true) {
			rt.Fatalf("at the end %+v is in use by %d tasks", used, len(held))
		}
	})
}

var held0 held

// using is an executor that watches what its tasks use.
type using struct {
	Executor
	*usage
}

type usingRunner struct {
	runner
	using
	total workflow.Resources
}

func (e using) open(l *life) (runner, error) {
	inner, err := e.Executor.open(l)
	return &usingRunner{inner, e, l.agent.host.Total()}, err
}

func (r *usingRunner) run(t *task) outcome {
	r.take(t, r.total)
	defer r.put(t)
	return r.runner.run(t)
}

// Whatever tasks need: all that the agent can hold at all end, the others never start.
func TestAllThatFitsEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster()
		c.poll = 10 * time.Millisecond
		seen := &usage{gpus: map[string]bool{}}
		a := startAgent(t, c, func(o *Options) {
			o.Executor, o.Host, o.patience = using{pretending{}, seen}, &someHost, time.Nanosecond
			o.Info.Slots = rapid.IntRange(1, 6).Draw(rt, "slots")
		})
		fit, fits := []workflow.Member{}, 0
		for range rapid.IntRange(1, 30).Draw(rt, "tasks") {
			spec := shell("true")
			spec.Resources = anyResources(rt, 1)
			members := c.submit(spec)
			if spec.Resources.Fit(someHost.Total()) {
				fit = append(fit, members...)
			}
			fits += len(members)
		}
		for _, member := range fit {
			if end := c.end(t, member); end.Status != workflow.TaskCompleted {
				rt.Fatal(end)
			}
		}
		a.stop()
		<-a.done
		c.check(t)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.ends) != len(fit) || len(c.queue) != fits-len(fit) || len(seen.faults) > 0 {
			rt.Fatalf("%d of %d ended, %d wait, %v", len(c.ends), len(fit), len(c.queue), seen.faults)
		}
	})
}

// holding is an executor whose tasks tell that they started, and end when they are told to.
type holding struct {
	started chan *task
	end     chan struct{}
}

func (h holding) open(*life) (runner, error) { return h, nil }
func (holding) inline() bool                 { return false }
func (holding) close()                       {}

func (h holding) run(t *task) outcome {
	h.started <- t
	<-h.end
	now := t.held.at(time.Now())
	return outcome{result: workflow.Result{Status: workflow.TaskCompleted, Started: true, StartTime: now, EndTime: now}}
}

// A task that needs the whole agent has its turn although small ones wait behind it, of which one could start whenever
// another ends. Those that need no resources go on.
func TestLargeTaskHasItsTurn(t *testing.T) {
	t.Parallel()
	c := newCluster()
	h := holding{make(chan *task), make(chan struct{})}
	startAgent(t, c, func(o *Options) {
		o.Executor, o.Host, o.patience = h, &Host{CPU: 4 * workflow.Core}, time.Nanosecond
	})
	small, large, plain := shell("small"), shell("large"), shell("plain")
	small.Resources.CPU, large.Resources.CPU = workflow.Core, 4*workflow.Core
	wantStart := func(want string) {
		t.Helper()
		if got := (<-h.started).Spec.Command; got != want {
			t.Errorf("a %s task started, not a %s one", got, want)
		}
	}
	var last []workflow.Member
	for range 4 {
		c.submit(small)
		wantStart("small")
	}
	c.submit(large)
	for range 4 {
		last = c.submit(small)
	}
	c.submit(plain)
	h.end <- struct{}{}
	wantStart("plain")
	for range 4 {
		h.end <- struct{}{}
	}
	wantStart("large")
	h.end <- struct{}{}
	for range 4 {
		wantStart("small")
		h.end <- struct{}{}
	}
	c.end(t, last[0])
}

func TestGraphicsProcessors(t *testing.T) {
	t.Setenv(visibleDevices, " 2, GPU-7f,2,-1,5")
	if got := thisHost(t.TempDir()).GPUs; !slices.Equal(got, []string{"2", "GPU-7f"}) {
		t.Errorf("the graphics processors are %v", got)
	}
	for _, none := range []string{"", "-1", "NoDevFiles"} {
		t.Setenv(visibleDevices, none)
		if got := thisHost(t.TempDir()).GPUs; len(got) != 0 {
			t.Errorf("of %q there are %v", none, got)
		}
	}
	c := newCluster()
	startAgent(t, c, func(o *Options) { o.Host = &someHost; o.Info.Slots = 2 })
	graphics, plain := shell("echo $CUDA_VISIBLE_DEVICES"), shell("echo ${CUDA_VISIBLE_DEVICES-unset}")
	graphics.Resources.GPU = 2
	graphics.Env = map[string]string{visibleDevices: "mine"}
	for spec, want := range map[*workflow.TaskSpec]string{graphics: "3,GPU-7f", plain: "unset"} {
		member := c.submit(spec)[0]
		c.end(t, member)
		if got := strings.TrimSpace(string(c.output(member, engine.StreamStdout))); got != want {
			t.Errorf("the task sees %q, should see %q", got, want)
		}
	}
}

func TestThisHost(t *testing.T) {
	t.Parallel()
	host := thisHost(t.TempDir())
	if host.CPU <= 0 || host.MemoryMB <= 0 || host.DiskMB <= 0 {
		t.Errorf("this machine has %+v", host)
	}
	lower := host
	lower.lower(1, 10)
	if lower.MemoryMB != 1 || lower.CPU != workflow.Core/10 || lower.DiskMB != host.DiskMB {
		t.Errorf("with limits it has %+v", lower)
	}
	lower = host
	lower.lower(host.MemoryMB+1, 100_000_000)
	if !maps.Equal(map[int]int{host.MemoryMB: int(host.CPU)}, map[int]int{lower.MemoryMB: int(lower.CPU)}) {
		t.Errorf("limits give it more: %+v", lower)
	}
}
