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
// advisory locks whose disappearance makes others suspect that this process died. Behind a
// transaction pooler without a direct URL there is no such connection: nothing is heard and no lock is
// held, so work and mail are found by polling, and the heartbeats alone tell who lives.
type bell struct {
	backend *Backend

	mutex     sync.Mutex
	writers   *writerGroup               // of this process
	agents    map[*agentSession]struct{} // of this process
	locks     map[int64]struct{}         // to be held by the listening connection
	elsewhere bool                       // agents in other processes
	pending   map[string]struct{}        // payloads to send
	poke      chan struct{}              // something is pending
	relock    bool                       // locks changed
	interrupt context.CancelFunc         // ends the wait for a notification
	ready     chan struct{}              // closed when the connection listened once, or could not
	readyOnce sync.Once
}

// Payloads: "w" for work, "m" and the bucket for mail.
const workPayload = "w"

func newBell(backend *Backend) *bell {
	b := &bell{
		backend: backend, agents: map[*agentSession]struct{}{}, locks: map[int64]struct{}{}, pending: map[string]struct{}{},
		poke: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	backend.goroutine.Go(func() { ; b.send() })
	if backend.options.listens() {
		backend.goroutine.Go(func() { ; b.listen() })
	}
	return b
}

// listens tells whether there is a way to the server on which a session stays one.
func (o *Options) listens() bool { return !o.Visit && (o.DirectURL != "" || o.PreparedStatements) }

// ringMail wakes the writer of a bucket.
func (b *bell) ringMail(buckets ...int) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, bucket := range buckets {
		if b.writers != nil {
			b.writers.ring(bucket)
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

func (b *bell) setWriters(writers *writerGroup) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.writers = writers
}

// unsetWriters takes writers out that gave their buckets up.
func (b *bell) unsetWriters(writers *writerGroup) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.writers == writers {
		b.writers = nil
	}
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

// local tells whether no message from another process is needed to find work at once.
func (b *bell) local() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.writers != nil
}

// hold keeps a session lock with the given name as long as this process lives, and gives its key; 0 where no session
// can hold one.
func (b *bell) hold(ctx context.Context, name string) (key int64) {
	if !b.backend.options.listens() {
		return 0
	}
	key = b.backend.schema.key(name)
	b.changeLocks(func() { b.locks[key] = struct{}{} })
	select {
	case <-b.ready:
	case <-ctx.Done():
	}
	return key
}

func (b *bell) release(key int64) { b.changeLocks(func() { delete(b.locks, key) }) }

func (b *bell) changeLocks(change func()) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	change()
	b.relock = true
	if b.interrupt != nil {
		b.interrupt()
	}
}

// send notifies other processes: what came while a NOTIFY was under way goes with the next.
func (b *bell) send() {
	closing := b.backend.closing
	for {
		select {
		case <-closing.Done():
			select {
			case <-b.poke: // the last rings of a process that came for one call
			default:
				return
			}
		case <-b.poke:
		}
		b.sendPending(closing)
	}
}

// ringTime bounds a NOTIFY: whoever does not hear it looks by himself within a second.
const ringTime = time.Second

func (b *bell) sendPending(closing context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(closing), ringTime)
	defer cancel()
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
	if err := batch.send(ctx, b.backend.pool); err != nil && closing.Err() == nil {
		b.backend.logger.Debug("could not ring other processes; they find it out within a second", "error", err)
	}
}

const (
	// The delays before the listening connection is opened anew.
	firstListenDelay = 100 * time.Millisecond
	lastListenDelay  = 5 * time.Second
	// reassureEvery is well below the grace that a suspicion gives.
	reassureEvery = suspicionGrace / 4
)

// listen keeps one connection that listens and holds the locks, and opens it anew when it breaks.
func (b *bell) listen() {
	ctx := b.backend.closing
	for delay := firstListenDelay; ctx.Err() == nil; delay = min(2*delay, lastListenDelay) {
		err := b.session(ctx, func() { delay = firstListenDelay })
		b.readyOnce.Do(func() { close(b.ready) })
		if ctx.Err() != nil {
			return
		}
		b.backend.logger.Warn("the listening connection broke; until it is back, other processes are found out about within a second", "error", err)
		for left := delay; left > 0 && ctx.Err() == nil; left -= reassureEvery {
			b.reassure(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(min(left, reassureEvery)):
			}
		}
	}
}

// reassure tells of everyone of this process that they live though their locks are gone.
func (b *bell) reassure(ctx context.Context) {
	q, p := b.backend.queries, b.backend.pipeline()
	b.mutex.Lock()
	if b.writers != nil {
		writers := b.writers.numbers()
		p.add(func(on db.DBTX) error { return q.Beat(ctx, on, writers) })
	}
	for session := range b.agents {
		p.add(func(on db.DBTX) error {
			_, err := q.BeatAgent(ctx, on, session.incarnation)
			return err //nolint:wrapcheck // only logged
		})
	}
	b.mutex.Unlock()
	if len(p.steps) == 0 {
		return
	}
	sending, cancel := context.WithTimeout(ctx, suspicionGrace)
	defer cancel()
	if err := p.send(sending, b.backend.pool); err != nil && ctx.Err() == nil {
		b.backend.logger.Debug("could not beat", "error", err)
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
	if _, err := conn.Exec(ctx, keepAlive); err != nil {
		return fmt.Errorf("let the server notice a host that is gone: %w", err)
	}
	held := map[int64]struct{}{}
	if err := b.lock(ctx, conn, held); err != nil {
		return err
	}
	up()
	b.readyOnce.Do(func() { close(b.ready) })
	// Whatever was rung while nobody listened is looked for at once.
	b.mutex.Lock()
	if b.writers != nil {
		b.writers.ringAll()
	}
	b.wakeAgents()
	b.mutex.Unlock()
	for {
		notification, err := b.wait(ctx, conn)
		if err != nil {
			return err
		}
		if notification != "" {
			b.hear(notification)
			continue
		}
		if err := b.lock(ctx, conn, held); err != nil {
			return err
		}
	}
}

// wait gives the next payload, or nothing when the locks changed.
func (b *bell) wait(ctx context.Context, conn *pgx.Conn) (string, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mutex.Lock()
	if b.relock {
		b.mutex.Unlock()
		return "", nil
	}
	b.interrupt = cancel
	b.mutex.Unlock()
	notification, err := conn.WaitForNotification(waiting)
	if err == nil {
		return notification.Payload, nil
	}
	if ctx.Err() == nil && waiting.Err() != nil && !conn.IsClosed() {
		return "", nil
	}
	return "", fmt.Errorf("wait for a notification: %w", err)
}

func (b *bell) hear(payload string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if payload == workPayload {
		b.wakeAgents()
		return
	}
	if number, ok := strings.CutPrefix(payload, "m"); ok && b.writers != nil {
		// Anybody may notify, so it may be anything.
		if bucket, err := strconv.ParseUint(number, 10, 12); err == nil {
			b.writers.ring(int(bucket)) //nolint:gosec // 12 bits
		}
	}
}

// lock brings the session's locks to what is wanted.
func (b *bell) lock(ctx context.Context, conn *pgx.Conn, held map[int64]struct{}) error {
	b.mutex.Lock()
	b.relock = false
	wanted := make(map[int64]struct{}, len(b.locks))
	for key := range b.locks {
		wanted[key] = struct{}{}
	}
	b.mutex.Unlock()
	for key := range wanted {
		if _, ok := held[key]; ok {
			continue
		}
		locked, err := b.backend.queries.TryLock(ctx, conn, key)
		if err != nil {
			return fmt.Errorf("hold a session lock: %w", err)
		}
		if locked {
			held[key] = struct{}{}
		} else {
			// The server has not noticed yet that this process's former connection is gone.
			time.AfterFunc(suspicionGrace/2, func() { b.changeLocks(func() {}) })
		}
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
