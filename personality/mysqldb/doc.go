// Package mysqldb opens the MySQL or MariaDB database that a log is kept in, the way
// its durability and correctness need: with checked parameters, on a server whose
// settings keep what it has committed, and with the tables of this version. It also
// has the named lock by which the processes that share the database take turns.
//
// Trillian's tables and the publication store's (package pubstore) lie in one database,
// which holds one log.
package mysqldb
