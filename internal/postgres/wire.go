package postgres

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// memberSize is the size of a member in dispatches.members, which SQL cuts and reads too:
// index in runs (2), index in specs (2), node (4), attempt (2), delivery (2), big-endian.
const memberSize = 12

var errMalformed = errors.New("malformed")

// packMembers gives the columns of a delivery.
func packMembers(members []engine.DispatchMember) db.InsertDispatchParams {
	columns := db.InsertDispatchParams{N: int32(len(members)), Members: make([]byte, 0, memberSize*len(members))} //nolint:gosec // few
	specIndex := map[workflow.Hash]uint16{}
	columns.Versions = []int32{}
	versioned := false
	runIndex := map[workflow.RunID]uint16{}
	for i := range members {
		member := &members[i]
		run, ok := runIndex[member.Run]
		if !ok {
			run = uint16(len(columns.Runs)) //nolint:gosec // at most one a member
			runIndex[member.Run] = run
			columns.Runs = append(columns.Runs, db.UUID(member.Run))
			columns.Dags = append(columns.Dags, member.DAG)
			columns.Versions, versioned = append(columns.Versions, 0), versioned || member.Values != 0
		}
		// One task may need a later version than another.
		columns.Versions[run] = max(columns.Versions[run], member.Values)
		spec, ok := specIndex[member.Spec]
		if !ok {
			spec = uint16(len(columns.Specs)) //nolint:gosec // at most one a member
			specIndex[member.Spec] = spec
			columns.Specs = append(columns.Specs, db.UUID(member.Spec))
		}
		columns.Members = binary.BigEndian.AppendUint16(columns.Members, run)
		columns.Members = binary.BigEndian.AppendUint16(columns.Members, spec)
		columns.Members = binary.BigEndian.AppendUint32(columns.Members, uint32(member.Node)) //nolint:gosec // not negative
		columns.Members = binary.BigEndian.AppendUint16(columns.Members, member.Attempt)
		columns.Members = binary.BigEndian.AppendUint16(columns.Members, member.Delivery)
	}
	if !versioned {
		columns.Versions = columns.Versions[:0]
	}
	return columns
}

// versionAt is the version of the values of the run with the given index that its tasks need.
func versionAt(versions []int32, run int) int32 {
	if run < len(versions) {
		return versions[run]
	}
	return 0
}

// unpackMembers is the inverse of packMembers.
func unpackMembers(runs []db.UUID, dags []string, versions []int32, specs []db.UUID, members []byte) ([]engine.DispatchMember, error) {
	unpacked := make([]engine.DispatchMember, 0, len(members)/memberSize)
	if len(dags) < len(runs) || len(versions) > 0 && len(versions) < len(runs) {
		return nil, fmt.Errorf("runs of a delivery: %w", errMalformed)
	}
	for ; len(members) >= memberSize; members = members[memberSize:] {
		run := int(binary.BigEndian.Uint16(members))
		spec := int(binary.BigEndian.Uint16(members[2:]))
		if run >= len(runs) || spec >= len(specs) {
			return nil, fmt.Errorf("members of a delivery: %w", errMalformed)
		}
		unpacked = append(unpacked, engine.DispatchMember{
			Member: workflow.Member{
				Run: workflow.RunID(runs[run]), Node: int32(binary.BigEndian.Uint32(members[4:])), //nolint:gosec // was not negative
				Attempt: binary.BigEndian.Uint16(members[8:]), Delivery: binary.BigEndian.Uint16(members[10:]),
			},
			Spec: workflow.Hash(specs[spec]), DAG: dags[run], Values: versionAt(versions, run),
		})
	}
	return unpacked, nil
}

// A report is packed into one value: a no-op task takes about 10 bytes. All times are
// microseconds, the first of a report absolute and the others relative to it.
const reportVersion = 1

// The bits of an end's flags.
const (
	endStarted = 1 << iota
	endHasExitCode
	endHasReason
	endSameRun
	endHasOutput
	endHasEvaluation
)

func packReport(report *engine.Report) []byte {
	w := packer{buffer: make([]byte, 0, 64+12*len(report.Ends))}
	w.uint(reportVersion)
	w.int(report.Agent)
	w.uint(uint64(len(report.Done)))
	last := int64(0)
	for _, id := range report.Done {
		w.int(id - last)
		last = id
	}
	w.uint(uint64(len(report.Ends)))
	for i := range report.Ends {
		w.end(&report.Ends[i])
	}
	w.uint(uint64(len(report.Returns)))
	for i := range report.Returns {
		back := &report.Returns[i]
		w.member(&back.Member, 0)
		started := uint64(0)
		if back.Started {
			started = 1
		}
		w.uint(started)
		w.time(back.StartTime)
		w.time(back.EndTime)
	}
	return w.buffer
}

type packer struct {
	buffer []byte
	run    workflow.RunID
	at     int64
}

func (w *packer) uint(value uint64) { w.buffer = binary.AppendUvarint(w.buffer, value) }
func (w *packer) int(value int64)   { w.buffer = binary.AppendVarint(w.buffer, value) }

func (w *packer) text(text string) {
	w.uint(uint64(len(text)))
	w.buffer = append(w.buffer, text...)
}

func (w *packer) time(at time.Time) {
	if at.IsZero() {
		w.int(math.MinInt64)
		return
	}
	w.int(at.UnixMicro() - w.at)
	w.at = at.UnixMicro()
}

func (w *packer) member(member *workflow.Member, flags uint64) {
	if member.Run == w.run {
		w.uint(flags | endSameRun)
	} else {
		w.uint(flags)
		w.buffer = append(w.buffer, member.Run[:]...)
		w.run = member.Run
	}
	w.uint(uint64(member.Node)) //nolint:gosec // not negative
	w.uint(uint64(member.Attempt))
	w.uint(uint64(member.Delivery))
}

func (w *packer) end(end *engine.End) {
	flags := uint64(end.Status)<<8 | uint64(end.Cause)<<16 //nolint:gosec // small and not negative
	if end.Started {
		flags |= endStarted
	}
	if end.ExitCode != nil {
		flags |= endHasExitCode
	}
	if end.Reason != "" {
		flags |= endHasReason
	}
	if end.Output != "" {
		flags |= endHasOutput
	}
	if end.Evaluation != nil {
		flags |= endHasEvaluation
	}
	w.member(&end.Member, flags)
	if end.ExitCode != nil {
		w.int(int64(*end.ExitCode))
	}
	if end.Reason != "" {
		w.text(end.Reason)
	}
	if end.Output != "" {
		w.text(string(end.Output))
	}
	if end.Evaluation != nil {
		w.evaluation(end.Evaluation)
	}
	w.time(end.StartTime)
	w.time(end.EndTime)
}

// evaluation packs the result of an evaluation point as JSON, after a byte that tells whether that could be done.
func (w *packer) evaluation(evaluation *workflow.Evaluation) {
	encoded, err := json.Marshal(evaluation)
	if err != nil {
		encoded = nil // a value that is no JSON: whoever reads this refuses the result
	}
	w.text(string(encoded))
}

// leastEnd is the size of the smallest end: flags (two bytes), node, attempt, delivery, and two times.
const leastEnd = 7

// versionOf is the version of the form of a report.
func versionOf(body []byte) (version uint64, ok bool) {
	version, size := binary.Uvarint(body)
	return version, size > 0
}

// senderOf is the agent that sent a report, which may be damaged in what follows.
func senderOf(body []byte) (agent int64, ok bool) {
	r := unpacker{buffer: body}
	version, agent := r.uint(), r.int()
	return agent, version == reportVersion && !r.failed
}

func unpackReport(body []byte, replyTo int) (*engine.Report, error) {
	r := unpacker{buffer: body}
	if version := r.uint(); version != reportVersion {
		return nil, fmt.Errorf("report of version %d: %w", version, errMalformed)
	}
	report := &engine.Report{ReplyTo: replyTo, Agent: r.int()}
	last := int64(0)
	for range r.count() {
		last += r.int()
		report.Done = append(report.Done, last)
	}
	ends := r.count()
	report.Ends = make([]engine.End, 0, min(ends, len(r.buffer)/leastEnd))
	for range ends {
		report.Ends = append(report.Ends, r.end(report.Agent))
	}
	for range r.count() {
		member, _ := r.member()
		back := engine.Return{Member: member, Started: r.uint() == 1}
		back.StartTime, back.EndTime = r.time(), r.time()
		report.Returns = append(report.Returns, back)
	}
	if r.failed || len(r.buffer) > 0 {
		return nil, fmt.Errorf("report: %w", errMalformed)
	}
	return report, nil
}

type unpacker struct {
	buffer []byte
	failed bool
	run    workflow.RunID
	at     int64
}

func (r *unpacker) uint() uint64 {
	value, n := binary.Uvarint(r.buffer)
	if n <= 0 {
		r.failed, r.buffer = true, nil
		return 0
	}
	r.buffer = r.buffer[n:]
	return value
}

func (r *unpacker) int() int64 {
	value, n := binary.Varint(r.buffer)
	if n <= 0 {
		r.failed, r.buffer = true, nil
		return 0
	}
	r.buffer = r.buffer[n:]
	return value
}

// count reads a number of items, each of which takes at least a byte.
func (r *unpacker) count() int {
	count := r.uint()
	if count > uint64(len(r.buffer)) {
		r.failed, r.buffer = true, nil
		return 0
	}
	return int(count) //nolint:gosec // bounded by the buffer
}

func (r *unpacker) bytes(count int) []byte {
	if count > len(r.buffer) {
		r.failed, r.buffer = true, nil
		return nil
	}
	taken := r.buffer[:count]
	r.buffer = r.buffer[count:]
	return taken
}

func (r *unpacker) time() time.Time {
	relative := r.int()
	if relative == math.MinInt64 {
		return time.Time{}
	}
	r.at += relative
	return time.UnixMicro(r.at).UTC()
}

func (r *unpacker) member() (member workflow.Member, flags uint64) {
	flags = r.uint()
	if flags&endSameRun == 0 {
		copy(r.run[:], r.bytes(len(r.run)))
	}
	member.Run = r.run
	member.Node = int32(r.uint())      //nolint:gosec // was not negative
	member.Attempt = uint16(r.uint())  //nolint:gosec // was one
	member.Delivery = uint16(r.uint()) //nolint:gosec // was one
	return member, flags
}

func (r *unpacker) end(agent int64) engine.End {
	member, flags := r.member()
	end := engine.End{Member: member, Result: workflow.Result{
		Status: workflow.TaskStatus(flags >> 8 & 0xff), Cause: workflow.Cause(flags >> 16 & 0xff),
		Started: flags&endStarted != 0, Agent: agent,
	}}
	if flags&endHasExitCode != 0 {
		code := int32(r.int()) //nolint:gosec // was one
		end.ExitCode = &code
	}
	if flags&endHasReason != 0 {
		end.Reason = storable(string(r.bytes(r.count())))
	}
	if flags&endHasOutput != 0 {
		readOutput(&end.Result, r.bytes(r.count()))
	}
	if flags&endHasEvaluation != 0 {
		readEvaluation(&end.Result, r.bytes(r.count()))
	}
	end.StartTime, end.EndTime = r.time(), r.time()
	return end
}

// readOutput takes what a task gave to later ones. What is no JSON object could never be stored: then the task has failed.
func readOutput(result *workflow.Result, body []byte) {
	var object map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &object) != nil || object == nil {
		spoil(result, "its output is not a JSON object")
		return
	}
	result.Output = workflow.Value(body)
}

func readEvaluation(result *workflow.Result, body []byte) {
	evaluation := new(workflow.Evaluation)
	if !utf8.Valid(body) || json.Unmarshal(body, evaluation) != nil {
		spoil(result, "its evaluation result can't be read")
		return
	}
	result.Evaluation = evaluation
}

// spoil makes an end a failure.
func spoil(result *workflow.Result, reason string) {
	result.Status, result.Cause, result.Reason = workflow.TaskFailed, workflow.CauseEvaluation, reason
	result.Output, result.Evaluation = "", nil
}

// storable is text that a column can hold: an agent may quote what is no text.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// packFeed gives what a commit changed, for live pages: for each run its id, the number of its changed
// task runs, and for each of those node and status; a status of the run itself follows, or 255.
func packFeed(changes []*workflow.Change) []byte {
	var buffer []byte
	for _, change := range changes {
		buffer = append(buffer, change.ID[:]...)
		buffer = binary.AppendUvarint(buffer, uint64(len(change.Tasks)))
		for i := range change.Tasks {
			buffer = binary.AppendUvarint(buffer, uint64(change.Tasks[i].Node)) //nolint:gosec // not negative
			buffer = append(buffer, byte(change.Tasks[i].Status))               //nolint:gosec // all are below 255
		}
		status := byte(255)
		if change.Run != nil {
			status = byte(change.Run.Status) //nolint:gosec // all are below 255
		}
		buffer = append(buffer, status)
	}
	return buffer
}
