package postgres

import (
	"fmt"
	"hash/fnv"
	"regexp"
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

// clusterPattern is the form of a cluster_id: its names need no quotes in SQL, and no two clusters
// share one, because there is no "__" in them.
var clusterPattern = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)

// maxCluster keeps the longest name, that of a schema, within the 63 bytes at which PostgreSQL cuts names.
const maxCluster = 40

// newSchema gives the names of a cluster.
func newSchema(cluster string) (*schema, error) {
	if cluster == "" || cluster == DefaultCluster {
		return &schema{base: "cyclonetix"}, nil
	}
	if !clusterPattern.MatchString(cluster) || len(cluster) > maxCluster {
		return nil, fmt.Errorf("cluster_id %q: it must be lower-case letters, digits and single '_' between them, %d at most", cluster, maxCluster)
	}
	base := "cyclonetix_" + cluster
	names := &schema{base: base, replacer: strings.NewReplacer(
		"cyclonetix__state", base+"__state", "cyclonetix__river", base+"__river", "cyclonetix.", base+".",
		"SCHEMA IF NOT EXISTS cyclonetix;", "SCHEMA IF NOT EXISTS "+base+";",
	)}
	return names, nil
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
