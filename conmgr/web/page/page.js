"use strict";
// Shows the document of /status, which comes by server-sent events. All that is shown is text of the
// document, never markup.

const byId = (id) => document.getElementById(id);

function make(tag, text, className) {
	const e = document.createElement(tag);
	if (text !== undefined) e.textContent = text;
	if (className) e.className = className;
	return e;
}

function duration(ms) {
	if (ms === null) return "–";
	if (ms < 1) return `${Math.round(ms * 1000)} µs`;
	if (ms < 10000) return `${Math.round(ms * 10) / 10} ms`;
	if (ms < 600000) return `${Math.round(ms / 1000)} s`;
	return `${Math.round(ms / 60000)} min`;
}

function bytes(n) {
	for (const unit of ["B", "kB", "MB", "GB"]) {
		if (n < 10240) return `${Math.round(n)} ${unit}`;
		n /= 1024;
	}
	return `${Math.round(n)} TB`;
}

function card(i) {
	const c = make("article", undefined, `card ${i.state}`);
	c.dataset.instance = i.instance;
	const title = make("h3");
	title.append(make("span", `${i.instance}: ${i.host}:${i.port}`), make("span", `${i.state}, ${i.role}`, "state"));
	const list = make("dl");
	const row = (name, value) => list.append(make("dt", name), make("dd", value));
	row("last heartbeat", i.last_heartbeat_ms === null ? "none yet" : `${duration(i.last_heartbeat_ms)} ago`);
	row("round trip", i.rtt_ms === null ? "–" : `${duration(i.rtt_ms)}, jitter ${duration(i.jitter_ms)}`);
	if (i.lag_bytes !== null) row("behind", bytes(i.lag_bytes) + (i.lag_ms === null ? "" : `, ${duration(i.lag_ms)}`));
	row("bound", `${i.bound} connections`);
	row("used for", i.used_for === null ? "nothing" : i.used_for.replaceAll(",", ", "));
	if (i.hostaddr !== null) row("address", i.hostaddr + (i.timeline === null ? "" : `, timeline ${i.timeline}`));
	c.append(title, list);
	const detail = i.not_used && i.detail && i.not_used.includes(i.detail) ? null : i.detail;
	for (const note of [i.draining && `draining, by: ${i.draining}`, i.not_used && `not used: ${i.not_used}`, detail]) {
		if (note) c.append(make("p", note, "note"));
	}
	return c;
}

function application(a) {
	const r = make("tr");
	r.append(make("td", a.application_name || "(no name)"), make("td", a.target), make("td", a.instance), make("td", a.via),
		make("td", a.connections, "number"));
	return r;
}

function event(e) {
	const li = make("li", undefined, e.event === "lost" ? "lost-event" : e.level);
	const t = make("time", new Date(e.time).toLocaleString());
	t.dateTime = e.time;
	li.append(t, e.text + (e.repeated ? ` (and ${e.repeated} more)` : ""));
	if (e.hint) li.append(make("p", e.hint, "note"));
	return li;
}

function show(d) {
	byId("version").textContent = `${d.version}, since ${new Date(d.started).toLocaleString()}`;
	byId("summary").textContent = `${d.established} of ${d.instances.length} instances established, ` +
		(d.primary === null ? "no primary" : `primary is instance ${d.primary}`) +
		(d.waiting ? `, ${d.waiting} connections wait` : "");
	byId("instances").replaceChildren(...d.instances.map(card));
	byId("applications").replaceChildren(...d.applications.map(application));
	if (d.applications.length === 0) {
		const r = make("tr"), none = make("td", "no applications are bound");
		none.colSpan = 5;
		r.append(none);
		byId("applications").append(r);
	}
	byId("events").replaceChildren(...d.events.toReversed().map(event));
}

function follow() {
	const stream = new EventSource("stream");
	stream.onmessage = (m) => {
		document.body.classList.remove("stale");
		show(JSON.parse(m.data));
	};
	stream.onerror = () => {
		document.body.classList.add("stale");
		byId("summary").textContent = "The Connection Manager does not answer: what is shown is old.";
		// Of an answer that is no stream (503: too many pages are open) the browser tries no more.
		if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
	};
}

follow();
