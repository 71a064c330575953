"""psycopg 3, synchronous and asynchronous: where it is, and what it gets when the instance is lost. Usage: how conninfo"""
import asyncio
import sys

import psycopg

how, conninfo = sys.argv[1:]


def sync():
    conn = psycopg.connect(conninfo)
    print("port", conn.execute("select inet_server_port()").fetchone()[0])
    print("ready", flush=True)
    try:
        conn.execute("select pg_sleep(60)")
        print("not lost")
    except psycopg.OperationalError as e:
        print("lost:", e, "closed", conn.closed)


async def asynchronous():
    conn = await psycopg.AsyncConnection.connect(conninfo)
    cur = await conn.execute("select inet_server_port()")
    print("port", (await cur.fetchone())[0])
    print("ready", flush=True)
    try:
        await conn.execute("select pg_sleep(60)")
        print("not lost")
    except psycopg.OperationalError as e:
        print("lost:", e, "closed", conn.closed)


if how == "sync":
    sync()
else:
    asyncio.run(asynchronous())
