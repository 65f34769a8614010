// Package checkout puts a commit of a git repository into a folder, by the program git.
//
// A repository that is used again is not fetched again: a bare mirror of it is kept in a folder of caches, which several
// slots and several agents of a host share.
//
//	CACHE/gitconfig              what git has to obey; nobody else's configuration is read
//	CACHE/NAME-HASH.git          a mirror: all branches and tags, and the remote's HEAD as refs/cyclonetix/head
//	CACHE/NAME-HASH.lock         its lock (flock): shared by those who read, exclusive for who fetches, remakes or evicts
//	CACHE/NAME-HASH.new-…        one that is being made, or taken away; it is nobody's once its lock can be taken
//
// The hash is that of the URL with its credentials, so that nobody gets by the cache what the own credentials don't open.
//
// A whole commit that the mirror has needs no network. A branch, a tag and HEAD are fetched again when the last fetch is
// older than the time to live, and a name that the mirror does not know at once. A mirror is made beside the old one and
// put in its place when it is whole, and one that git can't read any more is made anew, once.
//
// The folder gets a repository of its own with that one commit (depth 1), so what becomes of the cache is nothing to a task
// that runs. Submodules and files of Git LFS are not fetched.
//
// Whoever calls runs the processes: see Runner. Credentials reach git by the environment of the one process that
// fetches, as answers of a credential helper that git asks for one host alone, and are written nowhere.
package checkout
