// Package engine is the seam between the parts that run workflows (orchestrator,
// agent, server, commands) and the backends that keep their state (postgres,
// memory, redis).
//
// A backend carries state and delivery together: a Commit holds the new states,
// the deliveries that follow from them, and the mail that it answers, and all of
// it is stored or nothing. What a backend promises is atomicity per bucket, no more.
//
// The words: a run belongs to a bucket; a bucket has one writer, the only one that
// changes its runs; everybody else puts a message into the bucket's mailbox. A
// delivery is a row of the queue: members (task runs) of one class (queue,
// required tags). Claiming a delivery is the lease on it. A report tells the
// writer how members ended. Duplicates of messages are harmless, because a
// member's attempt and delivery numbers are compared.
package engine
