// The Vercel AI SDK against a place: `node client.mjs JSON`. Prints {"feature","ok","detail","seconds"} a line.
//
// A feature is a function that throws when it does not work. Faults are set at the simulator itself.

import assert from 'node:assert/strict'
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { APICallError, embedMany, generateObject, generateText, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const place = JSON.parse(process.argv[2])
const TEXT = 'the quick brown fox'
const CITIES = ['Bern and its lakes', 'Zürich']
const ONE = 'please call weather({"city": "Bern and its lakes"})'
const ASKED = `${ONE} and call weather({"city": "Zürich"})`
const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII='
const COUNTED = Array.from({ length: 60 }, (_, at) => at + 1).join(' ')

function connect(key = place.key) {
  const options = { baseURL: place.url, apiKey: key }
  if (place.dialect === 'anthropic') return createAnthropic(options)
  const made = createOpenAI(options)
  return place.dialect === 'responses' ? (name) => made.responses(name) : (name) => made.chat(name)
}

const say = (prompt, more = {}) => ({ model: connect()(place.model), prompt, maxRetries: 0, ...more })
const weather = tool({
  description: 'the sky',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `grey over ${city}`,
})
const passive = tool({ description: 'the sky', inputSchema: z.object({ city: z.string() }) })

async function faults(...rules) {
  const answer = await fetch(`${place.simulator}/__faults`, { method: 'PUT', body: JSON.stringify(rules) })
  assert.equal(answer.status, 200)
}

async function broken(effects, run) {
  await faults({ provider: place.provider, ...effects })
  try {
    await run()
  } finally {
    await faults()
    await new Promise((resolve) => setTimeout(resolve, place.settle * 1000))
  }
}

const status = (code) => (error) => APICallError.isInstance(error) && error.statusCode === code

const everywhere = {
  async chat() {
    const answer = await generateText(say(TEXT))
    assert.equal(answer.text, TEXT)
    assert.equal(answer.finishReason, 'stop')
    assert.deepEqual([answer.usage.inputTokens, answer.usage.outputTokens], [4, 4])
  },
  async stream() {
    const answer = streamText(say('count to 60'))
    let pieces = 0
    let text = ''
    for await (const piece of answer.textStream) {
      text += piece
      pieces += 1
    }
    assert.equal(text, COUNTED)
    assert.ok(pieces > 20, 'it comes in pieces')
    const usage = await answer.usage
    assert.deepEqual([usage.inputTokens, usage.outputTokens], [3, 60])
    assert.equal(await answer.finishReason, 'stop')
  },
  async system() {
    const answer = await generateText(say('describe', { system: 'You are terse.' }))
    assert.equal(JSON.parse(answer.text).system, 'You are terse.')
  },
  async tools() {
    const answer = await generateText(say(ONE, { tools: { weather }, stopWhen: stepCountIs(2) }))
    assert.equal(answer.steps[0].finishReason, 'tool-calls')
    assert.deepEqual(answer.steps[0].toolCalls.map((call) => call.input), [{ city: CITIES[0] }])
    assert.match(answer.text, /^result: .*grey over Bern and its lakes/)
  },
  async parallel() {
    const answer = streamText(say(ASKED, { tools: { weather: passive } }))
    const deltas = new Map()
    const calls = []
    for await (const part of answer.fullStream) {
      if (part.type === 'tool-input-delta') deltas.set(part.id, (deltas.get(part.id) ?? '') + part.delta)
      if (part.type === 'tool-call') calls.push(part.input.city)
      if (part.type === 'error') throw part.error
    }
    assert.deepEqual(calls, CITIES)
    assert.deepEqual([...deltas.values()].map((text) => JSON.parse(text).city), CITIES)
  },
  async structured() {
    const schema = z.object({ name: z.string(), people: z.number().int() })
    const answer = await generateObject(say('a small town', { schema }))
    assert.deepEqual(answer.object, { name: 'a small town', people: 3 })
  },
  async images() {
    const content = [
      { type: 'text', text: 'look' },
      { type: 'image', image: Buffer.from(PIXEL, 'base64'), mediaType: 'image/png' },
    ]
    const answer = await generateText(say(undefined, { prompt: [{ role: 'user', content }] }))
    assert.equal(answer.text, 'look [image image/png 68]')
  },
  async limits() {
    // OpenAI's Responses want at least 16.
    const answer = await generateText(say('count to 60', { maxOutputTokens: 16 }))
    assert.equal(answer.finishReason, 'length')
    assert.equal(answer.text.trim(), COUNTED.split(' ').slice(0, 16).join(' '))
  },
  async 429() {
    await broken({ status: 429, headers: { 'retry-after': '1' } }, () =>
      assert.rejects(generateText(say(TEXT)), status(429)),
    )
  },
  async '5xx'() {
    await broken({ status: 503 }, () =>
      assert.rejects(generateText(say(TEXT)), (error) => APICallError.isInstance(error) && error.statusCode >= 500),
    )
  },
  async 'cut stream'() {
    for (const effects of [{ error_after: 3, delay_delta: 10 }, { cut_deltas: 3, delay_delta: 10 }]) {
      await broken(effects, async () => {
        let failed = false
        let pieces = 0
        const answer = streamText(say('count to 60', { onError: () => (failed = true) }))
        try {
          for await (const part of answer.fullStream) {
            if (part.type === 'text-delta') pieces += 1
            if (part.type === 'error') failed = true
          }
        } catch {
          failed = true
        }
        assert.ok(failed, `${JSON.stringify(effects)} was told as complete`)
        assert.ok(pieces > 0, 'it broke before it began')
      })
    }
  },
}

const own = {
  async 401() {
    const model = connect('nobody-has-this-key')(place.model)
    await assert.rejects(generateText({ ...say(TEXT), model }), status(401))
  },
  async 404() {
    await assert.rejects(generateText({ ...say(TEXT), model: connect()('missing-model') }), status(404))
  },
  async retry() {
    const began = Date.now()
    await broken({ status: 429, first: 1, headers: { 'retry-after': '1' } }, async () => {
      const answer = await generateText(say(TEXT, { maxRetries: 2 }))
      assert.equal(answer.text, TEXT)
    })
    assert.ok(Date.now() - began >= 1000, 'it waited')
  },
}
if (place.dialect === 'openai') {
  own.embeddings = async () => {
    const made = createOpenAI({ baseURL: place.url, apiKey: place.key })
    const found = await embedMany({ model: made.textEmbeddingModel(place.embed), values: ['one two', 'three'] })
    assert.deepEqual(found.embeddings.map((one) => one.length), [16, 16])
  }
}

globalThis.AI_SDK_LOG_WARNINGS = false
for (const [feature, run] of Object.entries({ ...everywhere, ...(place.own ? own : {}) })) {
  const began = Date.now()
  let detail = ''
  try {
    await run()
  } catch (error) {
    const said = error.responseBody ?? error.message ?? String(error)
    detail = `${error.name}: ${said}`.replace(/\s+/g, ' ').slice(0, 400)
  }
  console.log(JSON.stringify({ feature, ok: !detail, detail, seconds: (Date.now() - began) / 1000 }))
}
