// Statements by node-postgres as it is: a pool of one connection a name. Driven by ../drivers_test.go, which describes the lines.
// One process, one thread; waits for its standard input and the servers, and ends with its input.
'use strict'

const { readFileSync } = require('fs')
const { Pool } = require('pg')
const readline = require('readline')

const pools = new Map()
// The authority's certificate and the name to verify: the connection string has no place for the latter.
const ssl = process.env.TLS_CA && { ca: readFileSync(process.env.TLS_CA), servername: process.env.TLS_NAME }

function tell (name, kind, text) {
  process.stdout.write([name, kind, String(text).replace(/\s+/g, ' ')].join('\t') + '\n')
}

function poolOf (name, connectionString) {
  let pool = pools.get(name)
  if (!pool) {
    pool = new Pool({ connectionString, ssl, max: 1, idleTimeoutMillis: 0 })
    // Without this listener the loss of an idle connection ends the process.
    pool.on('error', e => tell(name, 'idle', `${e.code} ${e.message}`))
    pools.set(name, pool)
  }
  return pool
}

async function run (name, connectionString, statement) {
  try {
    const { rows } = await poolOf(name, connectionString).query({ text: statement, rowMode: 'array' })
    tell(name, 'ok', rows[0][0])
  } catch (e) {
    tell(name, 'error', `${e.code} ${e.message}`)
  }
}

readline.createInterface({ input: process.stdin })
  .on('line', line => run(...line.split('\t')))
  .on('close', () => process.exit(0))
