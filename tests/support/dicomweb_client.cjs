// npm's dicomweb-client with every call that it has, under node; prints what came of each as one JSON object.
// Arguments: the client's module, the URL of the DICOMweb root, files to store.
'use strict'

const fs = require('fs')

const [clientPath, url, ...files] = process.argv.slice(2)

/** The part of the browser's XMLHttpRequest that the client uses, over node's fetch. */
class XMLHttpRequest {
  constructor() {
    this.headers = {}
    this.readyState = 0
    this.responseType = ''
  }

  open(method, where) {
    this.method = method.toUpperCase()
    this.url = where
  }

  setRequestHeader(name, value) {
    this.headers[name] = String(value)
  }

  getResponseHeader(name) {
    return this.answered.headers.get(name)
  }

  getAllResponseHeaders() {
    return [...this.answered.headers].map(([name, value]) => `${name}: ${value}`).join('\r\n')
  }

  async send(body) {
    this.onloadstart()
    this.answered = await fetch(this.url, { method: this.method, headers: this.headers, body })
    const bytes = await this.answered.arrayBuffer()
    const text = () => new TextDecoder().decode(bytes)
    this.status = this.answered.status
    if (this.responseType === 'arraybuffer') this.response = bytes
    else if (this.responseType === 'json') this.response = bytes.byteLength ? JSON.parse(text()) : null
    else this.response = text()
    this.readyState = 4
    if (this.onprogress) this.onprogress({ loaded: bytes.byteLength })
    this.onreadystatechange()
    this.onloadend()
  }
}

global.XMLHttpRequest = XMLHttpRequest
const { api } = require(clientPath)

const first = (dataset, tag) => dataset[tag].Value[0]
const sizes = (parts) => parts.map((part) => part.byteLength)
const head = (bytes) => Buffer.from(bytes).subarray(0, 4).toString('hex')

async function run() {
  const client = new api.DICOMwebClient({ url, verbose: false })
  const study = { studyInstanceUID: '1.2.3' }
  const series = { ...study, seriesInstanceUID: '1.2.3.4' }
  const instance = { ...series, sopInstanceUID: '1.2.3.4.1' }
  const octets = [{ mediaType: 'application/octet-stream', transferSyntaxUID: '1.2.840.10008.1.2.1' }]
  const datasets = files.map((file) => {
    const bytes = fs.readFileSync(file)
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
  })
  const calls = {
    storeInstances: async () => JSON.parse(await client.storeInstances({ datasets }))['00081199'].Value.length,
    'storeInstances into a study': async () =>
      JSON.parse(await client.storeInstances({ datasets: [datasets[0]], ...study }))['00081199'].Value.length,
    searchForStudies: async () =>
      (await client.searchForStudies({ queryParams: { PatientName: 'M*', includefield: 'StudyDescription' } })).map((one) => first(one, '00081030')),
    'searchForStudies without a match': () => client.searchForStudies({ queryParams: { PatientID: 'nobody' } }),
    searchForSeries: async () => (await client.searchForSeries(study)).map((one) => first(one, '0020000E')),
    'searchForSeries of all studies': async () => (await client.searchForSeries()).length,
    searchForInstances: async () => (await client.searchForInstances(series)).length,
    'searchForInstances of a study': async () => (await client.searchForInstances(study)).length,
    'searchForInstances of all studies': async () => (await client.searchForInstances({ queryParams: { limit: 1 } })).length,
    retrieveStudyMetadata: async () => (await client.retrieveStudyMetadata(study)).length,
    retrieveSeriesMetadata: async () => (await client.retrieveSeriesMetadata(series)).map((one) => first(one, '00100010').Alphabetic),
    retrieveInstanceMetadata: async () => (await client.retrieveInstanceMetadata(instance)).map((one) => first(one, '00080018')),
    retrieveInstance: async () => (await client.retrieveInstance(instance)).byteLength,
    retrieveSeries: async () => sizes(await client.retrieveSeries(series)),
    retrieveStudy: async () => sizes(await client.retrieveStudy(study)),
    retrieveInstanceFrames: async () => sizes(await client.retrieveInstanceFrames({ ...instance, frameNumbers: [1, 3] })),
    'retrieveInstanceFrames as octets': async () =>
      sizes(await client.retrieveInstanceFrames({ ...instance, frameNumbers: [2], mediaTypes: octets })),
    retrieveInstanceRendered: async () => head((await client.retrieveInstanceRendered(instance))[0]),
    'retrieveInstanceRendered as PNG': async () =>
      head((await client.retrieveInstanceRendered({ ...instance, mediaTypes: [{ mediaType: 'image/png' }], queryParams: { window: '200,400,linear' } }))[0]),
    retrieveInstanceThumbnail: async () =>
      head((await client.retrieveInstanceThumbnail({ ...instance, mediaTypes: [{ mediaType: 'image/jpeg' }] }))[0]),
    retrieveInstanceFramesRendered: async () =>
      head((await client.retrieveInstanceFramesRendered({ ...instance, frameNumbers: [2], mediaTypes: [{ mediaType: 'image/jpeg' }] }))[0]),
    retrieveInstanceFramesThumbnail: async () =>
      head((await client.retrieveInstanceFramesThumbnail({ ...instance, frameNumbers: [2], mediaTypes: [{ mediaType: 'image/png' }] }))[0]),
    retrieveBulkData: async () => sizes(await client.retrieveBulkData({ BulkDataURI: await bulkData(client, instance) })),
    'retrieveBulkData in one part': async () => {
      const single = new api.DICOMwebClient({ url, singlepart: 'bulkdata' })
      return sizes(await single.retrieveBulkData({ BulkDataURI: await bulkData(client, instance) }))
    },
    'a study that is not there': () =>
      client.retrieveStudyMetadata({ studyInstanceUID: '9.9' }).then(() => 'found', (error) => error.status),
    buildInstanceWadoURIUrl: async () => client.buildInstanceWadoURIUrl(instance).slice(url.length),
  }
  const results = {}
  for (const [name, call] of Object.entries(calls)) {
    try {
      results[name] = await call()
    } catch (error) {
      results[name] = `failed: ${error.status || ''} ${error.message}`
    }
  }
  const own = Object.getOwnPropertyNames(api.DICOMwebClient.prototype)
  results.calls = own.filter((name) => /^(store|search|retrieve|build)/.test(name)).sort()
  console.log(JSON.stringify(results))
}

async function bulkData(client, instance) {
  const [metadata] = await client.retrieveInstanceMetadata(instance)
  return new URL(metadata['7FE00010'].BulkDataURI, url).href
}

run()
