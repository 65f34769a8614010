package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// hears waits for a ring.
func (w *world) hears(bell <-chan struct{}, what string) {
	w.Helper()
	select {
	case <-bell:
	case <-time.After(patience):
		w.Fatalf("no ring tells of %s", what)
	}
}

// hush takes rings away that came already.
func hush(bell <-chan struct{}) {
	for {
		select {
		case <-bell:
		default:
			return
		}
	}
}

// up waits until the backend listens and holds so many locks.
func (w *world) up(backend *Backend, locks int) {
	w.Helper()
	w.eventually("the backend listens", func() bool {
		return ask[int](w, `SELECT count(*) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.pid IN
			(SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' OR query LIKE '%pg_try_advisory_lock%')`) >= locks
	})
	<-backend.bell.ready
}

// Two processes wake each other: of mail, and of work.
func TestBellBetweenProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	other := w.open()
	session := agentOf(w, other, engine.AgentInfo{ID: "one"})
	if other.bell.local() || !w.backend.bell.local() {
		t.Error("the writer is thought to be elsewhere than it is")
	}
	w.up(w.backend, 1)
	w.up(other, 1)
	_, err := w.writer.Tick(w.ctx) // it learns of the agent
	w.must(err, "tick")
	w.backend.bell.mutex.Lock()
	elsewhere := w.backend.bell.elsewhere
	w.backend.bell.mutex.Unlock()
	if elsewhere {
		t.Fatal("an agent of the same process is taken for another's")
	}
	w.exec("UPDATE cyclonetix__state.agents SET process = 'elsewhere'")
	_, err = w.writer.Tick(w.ctx)
	w.must(err, "tick")

	hush(w.writer.Wake())
	id := submittedBy(w, other)
	w.hears(w.writer.Wake(), "a submission")
	hush(session.Wake())
	if mail := w.read(false, 10); len(mail) != 1 || mail[0].Run != id.ID {
		t.Fatalf("the mail is %+v", mail)
	} else {
		w.must(w.answer(mail), "answer")
	}
	w.hears(session.Wake(), "work")
	deliveries := w.wantClaim(session, 1, 0, "a")
	hush(w.writer.Wake())
	w.complete(session, deliveries)
	w.hears(w.writer.Wake(), "a report")
	if mail := w.read(false, 10); len(mail) != 1 || mail[0].Kind != engine.MailReport {
		t.Fatalf("the mail is %+v", mail)
	}
}

func submittedBy(w *world, backend *Backend) engine.Submitted {
	w.Helper()
	submitted, err := backend.Submit(w.ctx, []engine.Submission{submission(planOf("a"))})
	w.must(err, "submit")
	return submitted[0]
}

// listener is the session of the server that a backend listens on.
const listener = `FROM pg_stat_activity WHERE datname = current_database() AND pid IN
	(SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND (classid::bigint << 32 | objid::bigint) = $1)`

// A listener that is lost comes back with its locks, and with a ring for what nobody heard meanwhile.
func TestBellComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	session := w.agent("one")
	for _, key := range []int64{w.writer.group.lockKey, session.lockKey} {
		w.eventually("the lock is held", func() bool { return ask[int](w, "SELECT count(*) "+listener, key) == 1 })
	}
	former := ask[int](w, "SELECT pid "+listener, session.lockKey)
	hush(w.writer.Wake())
	hush(session.Wake())
	w.exec("SELECT pg_terminate_backend($1)", former)
	w.hears(w.writer.Wake(), "what nobody heard")
	w.hears(session.Wake(), "what nobody heard")
	for _, key := range []int64{w.writer.group.lockKey, session.lockKey} {
		w.eventually("the lock is held again", func() bool {
			return ask[int](w, "SELECT count(*) "+listener+" AND pid <> $2", key, former) == 1
		})
	}
	// And it listens.
	w.post(7, "x")
	w.exec("SELECT pg_notify($1, 'm7')", w.backend.schema.channel())
	w.hears(w.writer.Wake(), "a message")
	// A lock is given up with what it stood for, at once.
	key := session.lockKey
	w.must(session.Close(w.ctx), "close")
	w.eventually("the lock is given up", func() bool { return ask[int](w, "SELECT count(*) "+listener, key) == 0 })
}

// While it can't come back, those whose locks are gone say that they live, through the pool.
func TestLostListenerIsNoDeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	other := w.open()
	session := agentOf(w, other, engine.AgentInfo{ID: "one"})
	w.exec("UPDATE cyclonetix__state.agents SET process = 'elsewhere'")
	w.exec("UPDATE cyclonetix__state.writers SET process = 'elsewhere'")
	w.eventually("the lock is held", func() bool { return ask[int](w, "SELECT count(*) "+listener, session.lockKey) == 1 })
	w.closeDoor(w.backend.pool, other.pool, w.sql)
	w.exec("SELECT pg_terminate_backend(pid) "+listener, session.lockKey)
	w.exec("SELECT pg_terminate_backend(pid) "+listener, w.writer.group.lockKey)
	for start := time.Now(); time.Since(start) < 4*suspicionGrace; time.Sleep(suspicionGrace / 5) {
		if _, err := w.writer.Tick(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if status := ask[string](w, "SELECT status FROM cyclonetix__state.agents"); status != "live" {
		t.Errorf("the agent is %s", status)
	}
	if err := w.backend.retireWriters(w.ctx); !errors.Is(err, engine.ErrWriterExists) {
		t.Errorf("one who wants to take over hears: %v", err)
	}
}

// closeDoor refuses new sessions to everyone; the pools' present ones go on.
func (w *world) closeDoor(pools ...*pgxpool.Pool) {
	w.Helper()
	for _, pool := range pools {
		var held []*pgxpool.Conn
		for range 3 {
			conn, err := pool.Acquire(w.ctx)
			w.must(err, "connect")
			held = append(held, conn)
		}
		for _, conn := range held {
			conn.Release()
		}
	}
	config := w.sql.Config().ConnConfig
	database := config.Database
	config.Database = "template1"
	conn, err := pgx.ConnectConfig(w.ctx, config)
	w.must(err, "connect to another database")
	defer conn.Close(w.ctx) //nolint:errcheck // nothing follows
	_, err = conn.Exec(w.ctx, "ALTER DATABASE "+pgx.Identifier{database}.Sanitize()+" ALLOW_CONNECTIONS false")
	w.must(err, "close the door")
}

// Locks that change while the listener is busy are not forgotten.
func TestManyLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	held := map[int64]bool{}
	for number := range 60 {
		key := w.backend.bell.hold(w.ctx, string(rune('a'+number)))
		held[key] = true
		w.exec("SELECT pg_notify($1, 'w')", w.backend.schema.channel())
		if number%3 == 0 {
			w.backend.bell.release(key)
			delete(held, key)
		}
	}
	w.eventually("all locks are as they should be", func() bool {
		keys := askAll[int64](w, "SELECT unnest(cyclonetix__state.held_locks())")
		count := 0
		for _, key := range keys {
			if held[key] {
				count++
			}
		}
		return count == len(held) && len(keys) == len(held)
	})
}

// A writer's orchestrator that dies without a word is followed by the next as soon as it is certain, or its lock has been free
// for a moment in which nothing moved.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for name, process := range map[string]string{"proven": deadProcess(t), "suspected": "elsewhere"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.start(planOf("a"))
			former := w.writer
			w.exec("UPDATE cyclonetix__state.writers SET process = $1", process)
			w.backend.Close() // as if it had died: nobody said that the writer is done
			w.backend = w.open()
			w.takeOver()
			if w.writer.number == former.number || !ask[bool](w, "SELECT bool_and(dead) FROM cyclonetix__state.writers WHERE writer = $1", former.number) {
				t.Error("the former writer lives")
			}
			w.drain(w.agent("one"))
		})
	}
}
