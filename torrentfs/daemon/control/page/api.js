// The HTTP API of the mount (docs/api.md).

export const API = '/api/v1'

export class Refused extends Error {
  constructor (status, words) {
    super(words)
    this.status = status
  }
}

// What a route answers; `Refused` with the server's own words when it does not.
export async function ask (method, path, { json, body, type } = {}) {
  const headers = { accept: 'application/json' }
  if (json !== undefined) [body, type] = [JSON.stringify(json), 'application/json']
  if (type) headers['content-type'] = type
  let answer
  try {
    answer = await fetch(API + path, { method, headers, body })
  } catch {
    throw new Refused(0, 'the mount does not answer')
  }
  const text = await answer.text()
  let value = null
  try { value = text ? JSON.parse(text) : null } catch {}
  if (!answer.ok) throw new Refused(answer.status, value?.error ?? `the mount answers ${answer.status}`)
  return value
}

export const of = key => `/torrents/${encodeURIComponent(key)}`
