/** A message, part by part. What a model wrote is text and only text. */
export function Message({ message: { role, parts, metadata }, busy }) {
  const tokens = metadata?.usage?.outputTokens;
  // A part that was cut short says for ever that it is on its way.
  const cut = !busy && parts.some(({ state }) => state === "streaming" || state === "input-streaming");
  return (
    <article className={role} aria-busy={busy}>
      {parts.map((part, i) => (
        <Part key={i} part={part} busy={busy} />
      ))}
      {cut && <footer className="cut">Cut short.</footer>}
      {tokens > 0 && <footer>{tokens} tokens</footer>}
    </article>
  );
}

function Part({ part, busy }) {
  const { type } = part;
  const streaming = busy && part.state === "streaming";
  if (type === "text") return part.text.split(/\n{2,}/).map((text, i) => <p key={i}>{text}</p>);
  if (type === "reasoning")
    return (
      <details open={streaming}>
        <summary>{streaming ? "Thinking" : "Thought"}</summary>
        <p>{part.text}</p>
      </details>
    );
  if (type === "source-url")
    return (
      <p className="source">
        <a href={part.url} rel="noreferrer">
          {part.title ?? part.url}
        </a>
      </p>
    );
  if (type.startsWith("tool-")) return <Tool part={part} name={type.slice(5)} />;
  return null;
}

function Tool({ part: { state, input, output, errorText }, name }) {
  return (
    <figure className="tool" data-state={state}>
      <figcaption>{name}</figcaption>
      <code>{JSON.stringify(input ?? {})}</code>
      {output !== undefined && <code>{JSON.stringify(output)}</code>}
      {errorText && <code>{errorText}</code>}
    </figure>
  );
}
