// Package cronlog makes events of what Debian's cron and crontab, PAM and sudo say in syslog, and of what is found in the
// crontabs themselves.
//
// # What becomes of a line
//
// A line is one of five things, and each is counted: it makes an event or belongs to one; it is of no matter, such as
// the PAM session of a job whose run.start says the same; it is unknown, though cron, crontab, sudo or PAM seem to have
// written it; it is forged; or its text is cut. docs/cron.md has the table of lines and events.
//
// # Who says so
//
// Every event has the label ingest.sender, a [syslog.Kind], and ingest.identity, which says what that is worth:
//
//   - root: the kernel says that a process of root sent the line. cron and login write as root, and whoever is root
//     can do anything anyway.
//   - self: the kernel says that the user sent it whom it is about. crontab, su and sudo write as the user who
//     calls them: a user may have made up such a line, about nobody but himself.
//   - claimed: only the line says so.
//
// A line that seems to be cron's and whose sender the kernel knows not to be root isn't cron's: it becomes a
// syslog.forged event by the user who sent it, and none by anybody else. So does a line of crontab or sudo in another's name. /proc isn't
// asked who the sender is: by the time of the answer it may run another program.
//
// # Which job
//
// cron logs a user and a command. So a job is these two: its id is the user, and an HMAC of user and command under
// a key of this machine's. It stays when the schedule is changed; the event of a changed command names both ids. Two lines
// of a crontab with the same command are one job.
//
// # Runs
//
// A run is known by its process, the grandchild of cron, from CMD to the first of error and END. END says that the
// command succeeded only where cron would have logged a failure (-L has 4) and says which process ended (-L has 8).
//
// # Crontabs
//
// The last version of each crontab is kept, mode 0600, and what REPLACE and DELETE changed is the difference. cron says RELOAD of
// a crontab that was changed, and nothing of one that is new or gone: so they are also looked at at intervals. A
// difference that no line of crontab explains is an event by an unknown actor. What was told is the last version only when its
// events are kept. A file is never opened because a line names it, only
// because it has its name in its place.
package cronlog
