// Package gitrepo reads how users name repositories, revisions and folders in them, and says which repositories may be
// used. It runs nothing and touches no file but to follow links: package checkout does the work.
package gitrepo
