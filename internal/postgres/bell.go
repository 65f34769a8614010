package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
)

// bell wakes writers about mail and agents about work: through channels in this process, and by
// a coalesced NOTIFY after the commit where another process is concerned. A NOTIFY in a
// commit would serialise the commits of the whole database. A lost ring costs a tick.
//
// Its connection is the only one with session state: it listens, and it holds the
// advisory locks whose disappearance makes others suspect that this process died.
type bell struct {
	backend *Backend

	mutex     sync.Mutex
	writer    *Writer                    // of this process
	agents    map[*agentSession]struct{} // of this process
	locks     map[int64]struct{}         // to be held by the listening connection
	elsewhere bool                       // agents in other processes
	pending   map[string]struct{}        // payloads to send
	poke      chan struct{}              // something is pending
	relock    chan struct{}              // locks changed
	listening bool
	ready     chan struct{} // closed when the connection listened once, or could not
	readyOnce sync.Once
}

// Payloads: "w" for work, "m" and the bucket for mail.
const workPayload = "w"

func newBell(backend *Backend) *bell {
	b := &bell{
		backend: backend, agents: map[*agentSession]struct{}{}, locks: map[int64]struct{}{}, pending: map[string]struct{}{},
		poke: make(chan struct{}, 1), relock: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	backend.goroutine.Add(2)
	go func() { defer backend.goroutine.Done(); b.send() }()
	go func() { defer backend.goroutine.Done(); b.listen() }()
	return b
}

// ringMail wakes the writer of a bucket.
func (b *bell) ringMail(buckets ...int) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, bucket := range buckets {
		if b.writer != nil {
			b.writer.ring(bucket)
		} else {
			b.notify("m" + strconv.Itoa(bucket))
		}
	}
}

// ringWork wakes the agents.
func (b *bell) ringWork() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.wakeAgents()
	if b.elsewhere {
		b.notify(workPayload)
	}
}

func (b *bell) wakeAgents() {
	for session := range b.agents {
		session.ring()
	}
}

// notify is called with the mutex held.
func (b *bell) notify(payload string) {
	b.pending[payload] = struct{}{}
	signal(b.poke)
}

// signal fills a channel that holds one, unless it is full.
func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

func (b *bell) setWriter(writer *Writer) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.writer = writer
}

func (b *bell) setElsewhere(elsewhere bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.elsewhere = elsewhere
}

func (b *bell) addAgent(session *agentSession) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.agents[session] = struct{}{}
}

func (b *bell) removeAgent(session *agentSession) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	delete(b.agents, session)
}

// alone tells whether no message from another process is needed to find work at once.
func (b *bell) local() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.writer != nil
}

// hold keeps a session lock as long as this process lives.
func (b *bell) hold(ctx context.Context, key int64) {
	b.mutex.Lock()
	b.locks[key] = struct{}{}
	b.mutex.Unlock()
	signal(b.relock)
	select {
	case <-b.ready:
	case <-ctx.Done():
	}
}

func (b *bell) release(key int64) {
	b.mutex.Lock()
	delete(b.locks, key)
	b.mutex.Unlock()
	signal(b.relock)
}

// send notifies other processes: what came while a NOTIFY was under way goes with the next.
func (b *bell) send() {
	ctx := b.backend.closing
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.poke:
		}
		b.mutex.Lock()
		payloads := b.pending
		b.pending = map[string]struct{}{}
		b.mutex.Unlock()
		batch := b.backend.pipeline()
		for payload := range payloads {
			batch.add(func(on db.DBTX) error {
				return b.backend.queries.Notify(ctx, on, db.NotifyParams{Channel: b.backend.schema.channel(), Payload: payload})
			})
		}
		if err := batch.send(ctx, b.backend.pool); err != nil && ctx.Err() == nil {
			b.backend.logger.Debug("could not ring other processes; they find it out within a second", "error", err)
		}
	}
}

// listen keeps one connection that listens and holds the locks, and opens it anew when it breaks.
func (b *bell) listen() {
	ctx := b.backend.closing
	for delay := 100 * time.Millisecond; ctx.Err() == nil; delay = min(2*delay, 5*time.Second) {
		err := b.session(ctx, func() { delay = 100 * time.Millisecond })
		b.readyOnce.Do(func() { close(b.ready) })
		if ctx.Err() != nil {
			return
		}
		b.backend.logger.Warn("the listening connection broke; until it is back, other processes are found out about within a second", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

func (b *bell) session(ctx context.Context, up func()) error {
	conn, err := connectDirect(ctx, b.backend.options)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing follows
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{b.backend.schema.channel()}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	held := map[int64]struct{}{}
	if err := b.lock(ctx, conn, held); err != nil {
		return err
	}
	up()
	b.readyOnce.Do(func() { close(b.ready) })
	// Whatever was rung while nobody listened is looked for at once.
	b.mutex.Lock()
	if b.writer != nil {
		b.writer.ringAll()
	}
	b.wakeAgents()
	b.mutex.Unlock()
	for {
		notification, err := b.wait(ctx, conn)
		if err != nil {
			return err
		}
		if notification == "" {
			if err := b.lock(ctx, conn, held); err != nil {
				return err
			}
			continue
		}
		b.hear(notification)
	}
}

// wait gives the next payload, or nothing when the locks changed.
func (b *bell) wait(ctx context.Context, conn *pgx.Conn) (string, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-b.relock:
			cancel()
		case <-done:
		}
	}()
	notification, err := conn.WaitForNotification(waiting)
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil && !conn.IsClosed() {
			return "", nil
		}
		return "", fmt.Errorf("wait for a notification: %w", err)
	}
	return notification.Payload, nil
}

func (b *bell) hear(payload string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if payload == workPayload {
		b.wakeAgents()
		return
	}
	if number, ok := strings.CutPrefix(payload, "m"); ok && b.writer != nil {
		if bucket, err := strconv.Atoi(number); err == nil {
			b.writer.ring(bucket)
		}
	}
}

// lock brings the session's locks to what is wanted.
func (b *bell) lock(ctx context.Context, conn *pgx.Conn, held map[int64]struct{}) error {
	b.mutex.Lock()
	wanted := make(map[int64]struct{}, len(b.locks))
	for key := range b.locks {
		wanted[key] = struct{}{}
	}
	b.mutex.Unlock()
	for key := range wanted {
		if _, ok := held[key]; ok {
			continue
		}
		if _, err := b.backend.queries.TryLock(ctx, conn, key); err != nil {
			return fmt.Errorf("hold a session lock: %w", err)
		}
		held[key] = struct{}{}
	}
	for key := range held {
		if _, ok := wanted[key]; ok {
			continue
		}
		if _, err := b.backend.queries.Unlock(ctx, conn, key); err != nil {
			return fmt.Errorf("give a session lock up: %w", err)
		}
		delete(held, key)
	}
	return nil
}
