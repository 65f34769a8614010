package server

import (
	"context"
	"sync"
	"time"
)

const (
	// largePageTime bounds the reading of what the page of a large run shows.
	largePageTime = 30 * time.Second
	// largePageShare is the part of the time that making the page of a large run may take: one in so many.
	largePageShare = 10
	// mostLargePages bounds the pages that are kept.
	mostLargePages = 16
)

// largePages keeps pages that are dear to make, so that browsers which show them do not slow down the runs. One is made at a
// time. It is safe for concurrent use.
type largePages struct {
	turn chan struct{}

	mu   sync.Mutex
	kept map[string]keptPage
}

type keptPage struct {
	body  []byte
	until time.Time
}

func newLargePages() *largePages {
	return &largePages{turn: make(chan struct{}, 1), kept: map[string]keptPage{}}
}

// get gives the page of a run: the one that is kept, or a new one, which is kept for as long as was said, or longer.
func (l *largePages) get(ctx context.Context, id string, build func() (body []byte, until time.Time, err error)) ([]byte, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if body := l.find(id); body != nil {
		return body, nil
	}
	body, until, err := build()
	if err == nil {
		l.keep(id, keptPage{body, until})
	}
	return body, err
}

func (l *largePages) find(id string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if page, ok := l.kept[id]; ok && time.Now().Before(page.until) {
		return page.body
	}
	return nil
}

func (l *largePages) keep(id string, page keptPage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for other, old := range l.kept {
		if !now.Before(old.until) || len(l.kept) >= mostLargePages {
			delete(l.kept, other)
		}
	}
	l.kept[id] = page
}
