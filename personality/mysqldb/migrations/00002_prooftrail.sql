-- +goose Up
-- The publication store (package pubstore). Numbers that aren't of SQL's are as
-- there; each table's rows are checked by who reads them.

CREATE TABLE IF NOT EXISTS prooftrail_log (
  one    TINYINT UNSIGNED NOT NULL PRIMARY KEY, -- always 1
  params MEDIUMBLOB NOT NULL                    -- JSON
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_head (
  one  TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  size BIGINT UNSIGNED NOT NULL,
  root BINARY(32) NOT NULL,
  mac  BINARY(32) NOT NULL
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_checkpoint (
  one  TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  note MEDIUMBLOB NOT NULL
) ENGINE=InnoDB;

-- What a publication appends is a row of its own. width is how many hashes or
-- entries the tile held before.
CREATE TABLE IF NOT EXISTS prooftrail_tile (
  level TINYINT UNSIGNED NOT NULL,
  n     BIGINT UNSIGNED NOT NULL,
  width SMALLINT UNSIGNED NOT NULL,
  data  BLOB NOT NULL,
  PRIMARY KEY (level, n, width)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_bundle (
  n     BIGINT UNSIGNED NOT NULL,
  width SMALLINT UNSIGNED NOT NULL,
  data  LONGBLOB NOT NULL,
  PRIMARY KEY (n, width)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_identity (
  hash BINARY(32) NOT NULL PRIMARY KEY,
  idx  BIGINT UNSIGNED NOT NULL
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_opening (
  idx       BIGINT UNSIGNED NOT NULL,
  leaf_hash BINARY(32) NOT NULL,
  opening   MEDIUMBLOB NOT NULL,
  PRIMARY KEY (idx, leaf_hash)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_mark (
  first  BIGINT UNSIGNED NOT NULL,
  mac    BINARY(32) NOT NULL,
  past   BIGINT UNSIGNED NOT NULL, -- the index behind the batch
  leaves MEDIUMBLOB NOT NULL,      -- leaf hash and identity hash of each leaf
  PRIMARY KEY (first, mac)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_token (
  id    VARBINARY(64) NOT NULL PRIMARY KEY,
  token MEDIUMBLOB NOT NULL -- JSON
) ENGINE=InnoDB;
