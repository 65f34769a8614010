package keeper

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkStart compares a captured `sh -c true` under the keeper with
// os/exec's CombinedOutput, in interleaved rounds so that a busy machine slows
// both: vs-exec is the median of the rounds' ratios, cpu-vs-exec that of the
// processor time, which counts both sides, the keeper and the commands.
func BenchmarkStart(b *testing.B) {
	env := os.Environ()
	for _, workers := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			k, err := Start()
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			const round = 320
			viaKeeper := func() error { return capture(k, env) }
			viaExec := func() error {
				_, err := exec.Command("sh", "-c", "true").CombinedOutput()
				return err
			}
			var rate, cpu, ours, theirs []float64
			for b.Loop() {
				r1, c1 := spread(b, k, workers, round, viaKeeper)
				r2, c2 := spread(b, k, workers, round, viaExec)
				rate, cpu = append(rate, r1/r2), append(cpu, c2/c1)
				ours, theirs = append(ours, r1), append(theirs, r2)
			}
			b.ReportMetric(median(rate), "vs-exec")
			b.ReportMetric(median(cpu), "cpu-vs-exec")
			b.ReportMetric(median(ours), "starts/s")
			b.ReportMetric(median(theirs), "exec-starts/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func capture(k *Keeper, env []string) error {
	p, err := k.Run(Command{Script: "true", Env: env})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(io.Discard, p.Stderr) })
	io.Copy(io.Discard, p.Stdout)
	wg.Wait()
	e := <-p.Exited()
	p.Close()
	if e.Code != 0 {
		return fmt.Errorf("exit %+v", e)
	}
	return nil
}

// spread runs f n times by so many workers and returns runs per second and
// seconds of processor time.
func spread(b *testing.B, k *Keeper, workers, n int, f func() error) (rate, cpu float64) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	before, began := cpuTime(k.PID()), time.Now()
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(began).Seconds(), cpuTime(k.PID()) - before
}

// cpuTime is in seconds: of this process, its children, the keeper and its children.
func cpuTime(keeper int) float64 {
	var self, children syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children)
	sum := 0.0
	for _, t := range []syscall.Timeval{self.Utime, self.Stime, children.Utime, children.Stime} {
		sum += float64(t.Sec) + float64(t.Usec)/1e6
	}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", keeper)); err == nil {
		var comm, state string
		var f [50]float64
		args := []any{&f[0], &comm, &state}
		for i := range 14 {
			args = append(args, &f[i+1])
		}
		fmt.Sscan(string(stat), args...)
		for _, ticks := range f[11:15] { // utime stime cutime cstime
			sum += ticks / 100
		}
	}
	return sum
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
