package postgres

import (
	"hash/fnv"
	"strings"
	"sync"
)

// DefaultCluster is the cluster_id of the cluster whose schema is plain "cyclonetix".
const DefaultCluster = "default_cluster"

// schema knows the names that a cluster's objects have in the database.
type schema struct {
	base     string // the views
	replacer *strings.Replacer
	cache    sync.Map // of statements that were rewritten
}

// newSchema gives the names of a cluster. A cluster_id has no "__" in it, so no
// two clusters share a name.
func newSchema(cluster string) *schema {
	if cluster == "" || cluster == DefaultCluster {
		return &schema{base: "cyclonetix"}
	}
	base := "cyclonetix_" + cluster
	return &schema{base: base, replacer: strings.NewReplacer(
		"cyclonetix__state", base+"__state", "cyclonetix__river", base+"__river", "cyclonetix.", base+".",
		"SCHEMA IF NOT EXISTS cyclonetix;", "SCHEMA IF NOT EXISTS "+base+";",
	)}
}

func (s *schema) state() string { return s.base + "__state" }
func (s *schema) river() string { return s.base + "__river" }

// rewrite puts the cluster's names into a statement that has the default ones.
func (s *schema) rewrite(sql string) string {
	if s.replacer == nil {
		return sql
	}
	if known, ok := s.cache.Load(sql); ok {
		return known.(string) //nolint:forcetypeassert // only strings are stored
	}
	rewritten := s.replacer.Replace(sql)
	s.cache.Store(sql, rewritten)
	return rewritten
}

// key is an advisory lock key: locks are per database, and clusters must not meet.
func (s *schema) key(name string) int64 {
	digest := fnv.New64a()
	digest.Write([]byte(s.base + "\x00" + name))
	return int64(digest.Sum64()) //nolint:gosec // any 64 bits will do
}

// channel is the name of the cluster's notifications.
func (s *schema) channel() string { return s.base + "__bell" }
