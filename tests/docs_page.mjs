// Runs the script of /docs in a document of its own making: opens everything, sends everything.
//   node docs_page.mjs PAGE DOCUMENT   prints {"text": all that is shown, "sent": [[url, options], …]}
import { readFileSync } from "node:fs";
import vm from "node:vm";

const [page, openapi] = process.argv.slice(2).map((name) => readFileSync(name, "utf-8"));
const sent = [];
const byId = {};

class Element {
  constructor(name) { this.name = name; this.nodes = []; this.attributes = {}; this.own = ""; }
  append(...nodes) {
    for (const node of nodes)
      this.nodes.push(node instanceof Element ? node : Object.assign(new Element("#text"), { own: String(node) }));
  }
  replaceChildren(...nodes) { this.nodes = []; this.own = ""; this.append(...nodes); }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  set textContent(text) { this.nodes = []; this.own = String(text); }
  get textContent() { return this.own + this.nodes.map((node) => node.textContent).join(" "); }
  get firstChild() { return this.nodes[0]; }
  get childElementCount() { return this.nodes.filter((node) => node.name !== "#text").length; }
  *all() { yield this; for (const node of this.nodes) yield* node.all(); }
}

for (const [, name, id] of page.matchAll(/<(\w+)[^>]* id="(\w+)"/g)) byId[id] = new Element(name);
byId.key.value = "sk-er-test";
const [, script] = page.match(/<script>([^]*)<\/script>/);
const answer = (text) => ({
  status: 200, headers: new Map([["x-request-id", "r"]]),
  json: async () => JSON.parse(text), text: async () => text,
});
vm.runInNewContext(script, {
  FormData, Blob,
  location: { pathname: "/behind/a/proxy/docs" },
  document: { getElementById: (id) => byId[id], createElement: (name) => new Element(name) },
  fetch: async (url, options) => {
    const body = options.body instanceof FormData ? [...options.body.keys()] : options.body;
    sent.push([url, { ...options, body }]);
    return answer(url.endsWith("/openapi.json") ? openapi : "{}");
  },
});
const rest = () => new Promise((done) => setTimeout(done, 10));
await rest();
for (let round = 0; round < 3; round += 1)  // what is opened shows more to open
  for (const element of byId.operations.all()) if (element.ontoggle) element.ontoggle();
for (const element of [...byId.operations.all()]) {
  if (element.onchange) { element.value = element.nodes.at(-1).textContent; element.onchange(); }
  if (element.onclick) element.onclick();
}
await rest();
const unlabelled = [...byId.operations.all()].filter((element) =>
  ["input", "textarea", "select"].includes(element.name)
  && ![...byId.operations.all()].some((label) => label.name === "label" && label.htmlFor === element.id));
console.log(JSON.stringify({
  text: byId.title.textContent + byId.about.textContent + byId.operations.textContent,
  sent, unlabelled: unlabelled.length,
}));
