"""psycopg 2, synchronous and asynchronous: where it is, and what it gets when the instance is lost. Usage: how conninfo"""
import select
import sys

import psycopg2
import psycopg2.extensions as ext


def wait(conn):
    while True:
        state = conn.poll()
        if state == ext.POLL_OK:
            return
        if state == ext.POLL_READ:
            select.select([conn.fileno()], [], [])
        else:
            select.select([], [conn.fileno()], [])


how, conninfo = sys.argv[1:]
conn = psycopg2.connect(conninfo, async_=1 if how == "async" else 0)
if how == "async":
    wait(conn)
cur = conn.cursor()
cur.execute("select inet_server_port()")
if how == "async":
    wait(conn)
print("port", cur.fetchone()[0])
print("ready", flush=True)
try:
    cur.execute("select pg_sleep(60)")
    if how == "async":
        wait(conn)
    print("not lost")
except psycopg2.OperationalError as e:
    print("lost:", e, "closed", conn.closed)
