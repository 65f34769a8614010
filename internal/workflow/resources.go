package workflow

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Resources are what a task sets aside on its agent while it runs, or what an agent has. They are no limits: nothing keeps a
// process from using more.
type Resources struct {
	CPU      Cores `json:"cpu,omitzero"`
	MemoryMB int   `json:"memory_mb,omitempty"`
	GPU      int   `json:"gpu,omitempty"`
	DiskMB   int   `json:"disk_mb,omitempty"`
}

// The most that a task may ask for; each is stored in 32 bits.
const (
	MaxCores     = 100_000
	MaxMegabytes = 1_000_000_000
	MaxGPUs      = 1000
)

// Cores is a number of processor cores in thousandths, so that sums are exact.
type Cores int

// Core is one of them.
const Core Cores = 1000

// ParseCores reads a decimal number of cores with up to three digits after the point.
func ParseCores(text string) (Cores, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > 3 {
		return 0, fmt.Errorf("cores %q: more than three digits after the point", text)
	}
	number, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", 3-len(fraction)), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("cores %q: not a number of 0 to %d", text, MaxCores)
	}
	return Cores(number), nil
}

// String is the decimal number.
func (c Cores) String() string { return strconv.FormatFloat(float64(c)/float64(Core), 'f', -1, 64) }

// MarshalJSON gives a decimal number.
func (c Cores) MarshalJSON() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalJSON reads one.
func (c *Cores) UnmarshalJSON(text []byte) (err error) {
	*c, err = ParseCores(string(bytes.TrimSpace(text)))
	return err
}

// IsZero tells that there is nothing.
func (r Resources) IsZero() bool { return r == Resources{} }

// Plus is both together.
func (r Resources) Plus(more Resources) Resources {
	return Resources{r.CPU + more.CPU, r.MemoryMB + more.MemoryMB, r.GPU + more.GPU, r.DiskMB + more.DiskMB}
}

// Minus is what is left without some; nothing of what there is too little of.
func (r Resources) Minus(less Resources) Resources {
	return Resources{max(r.CPU-less.CPU, 0), max(r.MemoryMB-less.MemoryMB, 0), max(r.GPU-less.GPU, 0), max(r.DiskMB-less.DiskMB, 0)}
}

// Fit tells whether there is enough of each in total.
func (r Resources) Fit(total Resources) bool {
	return r.CPU <= total.CPU && r.MemoryMB <= total.MemoryMB && r.GPU <= total.GPU && r.DiskMB <= total.DiskMB
}
